"""The delegate computes what the stock kernels compute, bit for bit."""

import numpy as np
import pytest

from ec2t_tf.export.litert import Interpreter
from tests.dense_cases import DENSE
from tests.tflite.fixtures import RESOLVERS, outputs_of, packed, random_inputs, run

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")
STOCK = {"tflite": "reference", "fp32": "xnnpack"}
INPUTS = 64


@pytest.fixture(scope="module", params=NETS)
def net(request):
    return request.param


@pytest.fixture(scope="module", params=list(STOCK))
def requant(request):
    return request.param


@pytest.fixture(scope="module")
def expected(int8_nets, net, requant):
    """Inputs and what the stock interpreter makes of them."""
    inputs = random_inputs(int8_nets[net], INPUTS)
    return inputs, run(int8_nets[net], inputs, STOCK[requant])


@pytest.mark.few(14)
@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("int8", {"claim_int8": True}),
        ("int8", {"claim_int8": "always"}),
        ("int8", {"claim_int8": "always", "reference": True}),
        ("packed", {}),
    ],
)
def test_equal_to_stock_kernels(int8_nets, net, requant, expected, file, options):
    content = int8_nets[net] if file == "int8" else packed(int8_nets[net])
    interpreter = Interpreter(
        model_content=content,
        requant=requant,
        **options,
        experimental_op_resolver_type=RESOLVERS[STOCK[requant]],
    )
    inputs, outputs = expected
    np.testing.assert_array_equal(outputs_of(interpreter, inputs), outputs)


@pytest.mark.parametrize("name", [n for n, case in DENSE.items() if case.zeros is not None])
def test_fully_connected_layers_round_once(name):
    """In f64, halves away from zero; two roundings would give other outputs."""
    case = DENSE[name]
    model = case.model()
    inputs = random_inputs(model, INPUTS)
    wanted = run(model, inputs, STOCK["tflite"])
    assert (case.rounded_twice(inputs[:, 0].astype(np.int8)) != wanted).any()
    for content, options in (
        (packed(model), {}),
        (model, {"claim_int8": "always"}),
        (model, {"claim_int8": "always", "reference": True}),
    ):
        interpreter = Interpreter(
            model_content=content,
            requant="tflite",
            **options,
            experimental_op_resolver_type=RESOLVERS[STOCK["tflite"]],
        )
        np.testing.assert_array_equal(outputs_of(interpreter, inputs), wanted)


@pytest.mark.parametrize("mode", list(STOCK))
def test_threads_share_the_work(int8_nets, mode):
    """Few inputs: on a busy machine every layer waits for its threads."""
    content = int8_nets["resnet8"]
    inputs = random_inputs(content, 2)
    interpreter = Interpreter(
        model_content=content,
        requant=mode,
        claim_int8="always",
        num_threads=2,
        experimental_op_resolver_type=RESOLVERS[STOCK[mode]],
    )
    np.testing.assert_array_equal(
        outputs_of(interpreter, inputs), run(content, inputs, STOCK[mode])
    )


def test_other_input_sizes(int8_nets):
    """The shapes are those of `resize_tensor_input`, batches included."""
    inputs = np.random.default_rng(3).integers(-128, 128, (3, 32, 32, 3), dtype=np.int8)
    alone = run(int8_nets["resnet8"], inputs[:, None])
    interpreter = Interpreter(model_content=packed(int8_nets["resnet8"]))
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], inputs.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    together = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_array_equal(together, alone)
