"""Random nets of one operator: what moves values and computes nothing."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph import Graph

from .nets import Net, case


def _whole(net: Net, shape: tuple[int, ...], dtype: str = "int8") -> tuple[int, dict[str, float]]:
    """An input, and the quantisation that its moved values have."""
    index = net.entry(shape, dtype)
    tensor = net.graph.tensors[index]
    if not tensor.scale.size:
        return index, {}
    return index, {"scale": float(tensor.scale[0]), "zero": int(tensor.zero_point[0])}


def _type(net: Net) -> str:
    return str(net.rng.choice(["int8", "int8", "int16", "float32"]))


@case("TRANSPOSE")
def transpose(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    rank, dtype = net.size(2, 3), _type(net)
    shape = tuple(net.size(1, 6) for _ in range(rank))
    entry, same = _whole(net, shape, dtype)
    order = [0, *(rng.permutation(rank) + 1).tolist()]
    out = net.tensor([(1, *shape)[axis] for axis in order], dtype, **same)
    return net.done("TRANSPOSE", (entry, net.whole(order)), out)


@case("STRIDED_SLICE")
def strided_slice(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    rank, dtype = net.size(1, 3), _type(net)
    shape = (1, *(net.size(1, 7) for _ in range(rank)))
    entry, same = _whole(net, shape[1:], dtype)
    begins, ends, strides, kept = [0], [1], [1], [1]
    masks = [0, 0, 0, 0, 0]
    for axis, size in enumerate(shape[1:], 1):
        begin = net.size(0, size - 1)
        end = net.size(begin + 1, size)
        stride = net.size(1, 3)
        shown = [begin - size if rng.integers(3) == 0 else begin, end]
        if rng.integers(4) == 0:
            masks[0] |= 1 << axis
            begin = 0
        if rng.integers(4) == 0:
            masks[1] |= 1 << axis
            end = size
        if rng.integers(5) == 0 and rank > 1:
            masks[4] |= 1 << axis
            masks[0] &= ~(1 << axis)
            begin, stride = shown[0] % size, 1
        else:
            kept.append(len(range(begin, end, stride)))
        if rng.integers(5) == 0 and not masks[4] >> axis & 1 and size > 1:  # backwards
            begin, end, stride = size - 1, net.size(0, size - 2), -stride
            shown = [begin, end]
            masks[0], masks[1] = masks[0] & ~(1 << axis), masks[1] & ~(1 << axis)
            kept[-1] = len(range(begin, end, stride))
        begins.append(shown[0])
        ends.append(shown[1])
        strides.append(stride)
    out = net.tensor(kept, dtype, **same)
    given = (entry, net.whole(begins), net.whole(ends), net.whole(strides))
    return net.done("STRIDED_SLICE", given, out, masks=tuple(masks))


@case("SLICE")
def plain_slice(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    dtype = _type(net)
    shape = (1, *(net.size(1, 7) for _ in range(3)))
    entry, same = _whole(net, shape[1:], dtype)
    begins = [net.size(0, size - 1) for size in shape]
    sizes = [net.size(1, size - begin) for size, begin in zip(shape, begins, strict=True)]
    given = [-1 if b + s == n else s for b, s, n in zip(begins, sizes, shape, strict=True)]
    out = net.tensor(sizes, dtype, **same)
    return net.done("SLICE", (entry, net.whole(begins), net.whole(given)), out)


@case("SPLIT")
def split(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis, count = [net.size(1, 4) for _ in range(3)], net.size(0, 2), net.size(1, 3)
    part = list(shape)
    shape[axis] *= count
    entry, same = _whole(net, tuple(shape))
    outs = tuple(net.tensor((1, *part), **same) for _ in range(count))
    place = axis + 1 if rng.integers(2) else axis - 3
    return net.done("SPLIT", (net.whole(place), entry), outs, num_splits=count)


@case("SPLIT_V")
def split_v(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis = [net.size(1, 4) for _ in range(3)], net.size(0, 2)
    sizes = [net.size(1, 4) for _ in range(net.size(2, 3))]
    shape[axis] = sum(sizes)
    entry, same = _whole(net, tuple(shape))
    outs = []
    for size in sizes:
        part = [1, *shape]
        part[axis + 1] = size
        outs.append(net.tensor(part, **same))
    given = (entry, net.whole(sizes), net.whole(axis + 1))
    return net.done("SPLIT_V", given, tuple(outs), num_splits=len(sizes))


@case("UNPACK")
def unpack(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis = [net.size(1, 4) for _ in range(3)], net.size(0, 2)
    entry, same = _whole(net, tuple(shape))
    part = [1, *shape[:axis], *shape[axis + 1 :]]
    outs = tuple(net.tensor(part, **same) for _ in range(shape[axis]))
    return net.done("UNPACK", (entry,), outs, num=shape[axis], axis=axis + 1)


@case("PACK")
def pack(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis, count = [net.size(1, 4) for _ in range(2)], net.size(1, 3), net.size(1, 3)
    entry, same = _whole(net, tuple(shape))
    entries = [entry, *(net.entry(shape, **same) for _ in range(count - 1))]
    if rng.integers(2):
        entries.append(net.codes((1, *shape), **same))
    out = net.tensor([1, *shape[: axis - 1], len(entries), *shape[axis - 1 :]], **same)
    return net.done("PACK", entries, out, values_count=len(entries), axis=axis)


@case("CONCATENATION")
def concatenation(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis = [net.size(1, 5) for _ in range(3)], net.size(0, 2)
    sizes = [net.size(1, 4) for _ in range(net.size(1, 4))]
    shapes = [[*shape[:axis], size, *shape[axis + 1 :]] for size in sizes]
    entry, same = _whole(net, tuple(shapes[0]))
    entries = [entry, *(net.entry(one, **same) for one in shapes[1:])]
    if rng.integers(3) == 0:
        shapes.append(shapes[0])
        entries.append(net.codes((1, *shapes[0]), **same))
    total = sum(one[axis] for one in shapes)
    out = net.tensor([1, *shape[:axis], total, *shape[axis + 1 :]], **same)
    place = axis + 1 if rng.integers(2) else axis - 3
    return net.done("CONCATENATION", entries, out, axis=place, activation="none")


@case("GATHER")
def gather(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, axis = [net.size(1, 5) for _ in range(3)], net.size(0, 2)
    entry, same = _whole(net, tuple(shape), _type(net))
    places = rng.integers(0, shape[axis], net.size(1, 6))
    out = net.tensor(
        [1, *shape[:axis], len(places), *shape[axis + 1 :]],
        net.graph.tensors[entry].dtype,
        **same,
    )
    return net.done("GATHER", (entry, net.whole(places)), out, axis=axis + 1, batch_dims=0)


@case("PAD")
@case("PADV2")
def pad(rng: np.random.Generator, kind: str = "PAD") -> Graph:
    net = Net(rng)
    shape = [net.size(1, 5) for _ in range(3)]
    entry, same = _whole(net, tuple(shape))
    border = [[0, 0], *([net.size(0, 2), net.size(0, 2)] for _ in shape)]
    out = net.tensor([a + s + b for s, (a, b) in zip([1, *shape], border, strict=True)], **same)
    given = [entry, net.whole(border)]
    if kind == "PADV2":
        given.append(net.codes((1,), **same))
    return net.done(kind, given, out)


case("PADV2")(lambda rng: pad(rng, "PADV2"))


@case("MIRROR_PAD")
def mirror_pad(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape, mode = [net.size(2, 5) for _ in range(3)], net.size(0, 1)
    entry, same = _whole(net, tuple(shape))
    border = [[0, 0], *([net.size(0, 1), net.size(0, 1)] for _ in shape)]
    out = net.tensor([a + s + b for s, (a, b) in zip([1, *shape], border, strict=True)], **same)
    return net.done("MIRROR_PAD", (entry, net.whole(border)), out, mode=mode)


@case("SPACE_TO_DEPTH")
@case("DEPTH_TO_SPACE")
def depth(rng: np.random.Generator, kind: str = "SPACE_TO_DEPTH") -> Graph:
    net = Net(rng)
    block, rows, columns, channels = (net.size(1, 3) for _ in range(4))
    fine, coarse = (
        (rows * block, columns * block, channels),
        (rows, columns, channels * block**2),
    )
    before, after = (fine, coarse) if kind == "SPACE_TO_DEPTH" else (coarse, fine)
    entry, same = _whole(net, before)
    return net.done(kind, (entry,), net.tensor((1, *after), **same), block_size=block)


case("DEPTH_TO_SPACE")(lambda rng: depth(rng, "DEPTH_TO_SPACE"))


@case("SPACE_TO_BATCH_ND")
@case("BATCH_TO_SPACE_ND")
def batch(rng: np.random.Generator, kind: str = "SPACE_TO_BATCH_ND") -> Graph:
    net = Net(rng)
    block = [net.size(1, 2), net.size(1, 2)]
    inner, channels = [net.size(1, 3), net.size(1, 3)], net.size(1, 3)
    wide = [s * b for s, b in zip(inner, block, strict=True)]
    cut = [[0, net.size(0, min(1, n - 1))] for n in wide]
    plain = (1, *(n - b for n, (_, b) in zip(wide, cut, strict=True)), channels)
    spread = (block[0] * block[1], *inner, channels)
    before, after = (plain, spread) if kind == "SPACE_TO_BATCH_ND" else (spread, plain)
    index = net.tensor(before)
    net.graph.inputs = (index,)
    tensor = net.graph.tensors[index]
    out = net.tensor(after, scale=float(tensor.scale[0]), zero=int(tensor.zero_point[0]))
    return net.done(kind, (index, net.whole(block), net.whole(cut)), out)


case("BATCH_TO_SPACE_ND")(lambda rng: batch(rng, "BATCH_TO_SPACE_ND"))


@case("RESIZE_NEAREST_NEIGHBOR")
@case("RESIZE_BILINEAR")
def resize(rng: np.random.Generator, kind: str = "RESIZE_NEAREST_NEIGHBOR") -> Graph:
    net = Net(rng)
    shape = [net.size(1, 7), net.size(1, 7), net.size(1, 20)]
    wanted = [net.size(1, 15), net.size(1, 15)]
    entry, same = _whole(net, tuple(shape))
    way = net.size(0, 2)
    flags = {"align_corners": way == 1, "half_pixel_centers": way == 2}
    out = net.tensor((1, *wanted, shape[2]), **same)
    return net.done(kind, (entry, net.whole(wanted)), out, **flags)


case("RESIZE_BILINEAR")(lambda rng: resize(rng, "RESIZE_BILINEAR"))


@case("TILE")
def tile(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = [net.size(1, 4) for _ in range(3)]
    counts = [1, *(net.size(1, 3) for _ in shape)]
    entry, same = _whole(net, tuple(shape))
    out = net.tensor([s * c for s, c in zip([1, *shape], counts, strict=True)], **same)
    return net.done("TILE", (entry, net.whole(counts)), out)


@case("REVERSE_V2")
def reverse(rng: np.random.Generator) -> Graph:
    net = Net(rng)
    shape = [net.size(1, 5) for _ in range(3)]
    entry, same = _whole(net, tuple(shape))
    return net.done(
        "REVERSE_V2", (entry, net.whole([net.size(1, 3)])), net.tensor((1, *shape), **same)
    )
