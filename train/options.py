"""The flags of the training script."""

from __future__ import annotations

from absl import flags

from ec2t_tf.train.method_flags import ALSO, METHOD_FLAGS
from ec2t_tf.train.zoo import MODELS

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset",
    "digits",
    "'digits' (inside scikit-learn), 'spoken_digit', 'speech_commands' or an image set of TFDS, "
    "'watch' (gestures, inside the pip package seglearn), or your own in --data_dir: 'folder' "
    "(images), 'recordings' (sensors) or 'arrays' (a .npz file)",
)
flags.DEFINE_string(
    "data_dir", None, "--dataset=folder, recordings: a folder with one a class; arrays: the file"
)
flags.DEFINE_list("image_size", None, "--dataset=folder: height,width to resize every image to")
flags.DEFINE_enum(
    "split",
    "random",
    ["random", "speaker"],
    "sounds: tested clips are drawn at random, or of speakers that training has never heard",
)
flags.DEFINE_string(
    "apart",
    None,
    "who is tested and never trained on, joined by +: subjects of --dataset=watch (9+10), speakers "
    "of --split=speaker (theo+yweweler). One run for each group of them is a cross-validation",
)
flags.DEFINE_string(
    "leave_out",
    None,
    "anomaly detection with --model=autoencoder: the class (name or number) that training does not "
    "see; figures are then the AUC with which it is told from the others",
)
flags.DEFINE_string("tfds_dir", None, "TFDS data folder; default: TFDS's own")
flags.DEFINE_enum(
    "model",
    "resnet8",
    [*MODELS],
    "network",
)
flags.DEFINE_float("depth", 1.0, "compound scaling: blocks grow by depth^phi", lower_bound=0.0)
flags.DEFINE_float("width", 1.0, "compound scaling: channels grow by width^phi", lower_bound=0.0)
flags.DEFINE_float("phi", 1.0, "compound scaling: how far", lower_bound=0.0)
flags.DEFINE_enum(
    "supernet",
    None,
    ["depth_width", "phi"],
    "instead of a ternary net, search a super-network: the grid of (depth, width) at phi 1, or the "
    "phi that reaches --target_accuracy with --depth and --width",
)
flags.DEFINE_float(
    "target_accuracy",
    None,
    "--supernet=phi: validation accuracy to reach, 0 to 1",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_list("phis", [], "--supernet=phi: values to try; default: the published ones")
flags.DEFINE_string("method", "ec2t", "ternary method; docs/methods.md lists them")
flags.DEFINE_string("policy", None, "JSON file of rules: which layer is treated how; see Policy")
flags.DEFINE_integer("epochs", 15, "epochs of ternary training", lower_bound=1)
flags.DEFINE_integer("float_epochs", 15, "epochs of float training before it", lower_bound=0)
flags.DEFINE_string("float_weights", None, "weights to start from (.npz, .h5) instead of random")
flags.DEFINE_string(
    "ternary_start",
    None,
    "folder of an earlier run, with whose ternary net this one begins (weights, centroids, ranges; "
    "the schedule is its own), or an exported .tflite file of it, best with --layer_shares=kept. "
    "The float net is what the script compares with and what teaches",
)
flags.DEFINE_integer("seed", 1, "seed of initial weights, order and augmentation")
flags.DEFINE_string("output_dir", "runs/latest", "where everything is written")
flags.DEFINE_bool("resume", False, "continue the run in --output_dir after its last epoch")
flags.DEFINE_integer("batch_size", 128, "images per step", lower_bound=1)
flags.DEFINE_integer(
    "steps_per_epoch",
    None,
    "a shorter epoch: this many steps on images drawn anew; default: all training images",
    lower_bound=1,
)
flags.DEFINE_float("float_learning_rate", 0.1, "peak of the float phase (SGD)", lower_bound=0.0)
flags.DEFINE_float(
    "float_weight_decay", 5e-3, "decoupled; times the learning rate", lower_bound=0.0
)
flags.DEFINE_float("learning_rate", 2e-3, "peak of the ternary phase (Adam)", lower_bound=0.0)
flags.DEFINE_float(
    "distill", 0.0, "share of the loss in which the float net teaches; 0: labels only", 0.0, 1.0
)
flags.DEFINE_float("distill_temperature", 2.0, "softens the teacher's word", lower_bound=1e-3)
flags.DEFINE_enum(
    "teacher",
    None,
    [*MODELS],
    "net that teaches in place of the float net of --model, with the weights of --teacher_weights",
)
flags.DEFINE_string(
    "teacher_weights",
    None,
    "its weights (.npz, .h5); it is of this data and neither deepened nor widened",
)
flags.DEFINE_float(
    "distill_end",
    None,
    "share to which --distill changes evenly until the last step; default: it stays",
    0.0,
    1.0,
)
flags.DEFINE_integer(
    "cycles", 1, "ternary phase: the learning rate falls to 0 this many times", lower_bound=1
)
flags.DEFINE_float(
    "ema", 0.0, "ternary phase: ends at the moving average of the weights, 0.99 say", 0.0, 0.99999
)
flags.DEFINE_bool("recalibrate", True, "averages of batch normalisation anew after the last epoch")
flags.DEFINE_integer("cutout", 0, "both phases: side in pixels of a square that is blanked", 0)
flags.DEFINE_float("mixup", 0.0, "both phases: alpha of mixing examples and labels, 0.2 say", 0.0)
flags.DEFINE_bool(
    "augment", True, "the data set's own augmentation: mirrored, shifted; SpecAugment; noise"
)
flags.DEFINE_bool("copies", True, "sounds: also placed anew, louder, softer, noisy")
flags.DEFINE_float("validation_fraction", 0.1, "training images held out for validation")
flags.DEFINE_bool("jit_compile", False, "compile training steps with XLA, as JAX always does")
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "of what layers compute in training; bfloat16 is faster where the processor has it",
)
flags.DEFINE_enum(
    "door",
    "keras",
    ["keras", "tfmot"],
    "'keras': Keras 3 on the backend of KERAS_BACKEND; 'tfmot': tf_keras and tfmot on TensorFlow, "
    "which --distribute needs and implies",
)
flags.DEFINE_enum(
    "distribute",
    None,
    ["mirrored", "multiworker"],
    "'mirrored': all GPUs of this machine (without any: the CPU as two devices); 'multiworker': "
    "start the same command on every machine of TF_CONFIG. --batch_size is that of all together",
)
flags.DEFINE_bool("tensorboard", False, "also scalars for TensorBoard, in --output_dir/tensorboard")
flags.DEFINE_string(
    "repeat",
    None,
    "metrics.json of a run to do again, into another --output_dir; other flags change it",
)
flags.DEFINE_integer(
    "verbose", 1, "1: progress bars on a terminal, 2: a line an epoch", lower_bound=0
)
# Knobs of --method=ec2t
flags.DEFINE_float(
    "centroid_scale",
    None,
    "EC2T: initial centroid / largest weight; default: 0.3, or found for --target_sparsity",
)
flags.DEFINE_float(
    "entropy_gain", None, "EC2T: strength of the entropy constraint, 0 to 1; default: 0.1"
)
flags.DEFINE_float("target_sparsity", None, "EC2T: share of zeros to train to, 0.8 for 80 %")
flags.DEFINE_enum(
    "layer_shares",
    "free",
    ["free", "kept"],
    "EC2T: whether zeros of --target_sparsity move between layers, or each keeps its first share",
)
flags.DEFINE_float(
    "hysteresis",
    0.0,
    "EC2T: share of a threshold by which a weight must pass it before its code changes",
    lower_bound=0.0,
    upper_bound=0.99,
)
flags.DEFINE_float(
    "sparsity_ramp",
    0.0,
    "EC2T: share of the epochs over which zeros rise to --target_sparsity, from none or from those "
    "of --ternary_start",
    lower_bound=0.0,
    upper_bound=1.0,
)
flags.DEFINE_float(
    "frozen_from",
    None,
    "EC2T: share of the epochs after which no weight changes its code, or the optimiser step",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "prune_int8_from",
    None,
    "EC2T: share of the epochs after which layers that stay int8 are pruned, or the optimiser step",
    lower_bound=0.0,
)
flags.DEFINE_enum(
    "start", "robust", ["robust", "published"], "EC2T: whether outliers decide the first centroids"
)
flags.DEFINE_float("centroid_learning_rate", 0.1, "EC2T: relative to --learning_rate")
flags.DEFINE_bool("reference_sign", False, "EC2T: the published code's sign of w_n's gradient")
# Knobs of the other methods: docs/methods.md
flags.DEFINE_float("ttq_threshold", 0.05, "TTQ: threshold / largest weight; larger is sparser")
flags.DEFINE_enum("ttq_initial_scales", "mean", ["mean", "one"], "TTQ: scales to begin with")
flags.DEFINE_enum("twn_threshold", "mean", ["mean", "max", "exact"], "TWN: rule of the threshold")
flags.DEFINE_float("twn_factor", None, "TWN: of the mean (default 0.75) or the max (default 0.05)")
flags.DEFINE_bool("twn_per_channel", False, "TWN: a scale for each channel of a convolution")
flags.DEFINE_float("tga_initial_threshold", 0.05, "TGA: first threshold / largest weight")
flags.DEFINE_float("tga_threshold_learning_rate", 0.01, "TGA: relative to --learning_rate")
flags.DEFINE_enum(
    "tga_update", "joint", ["joint", "two_pass"], "TGA: thresholds with the weights or before them"
)
flags.DEFINE_enum("sr_mode", "ramp", ["ramp", "learned"], "sparsity_regularized: the threshold")
flags.DEFINE_float("sr_threshold", 0.3, "sparsity_regularized: last threshold / largest weight")
flags.DEFINE_float("sr_ramp_until", 0.5, "sparsity_regularized: share of the epochs, or step")
flags.DEFINE_float("sr_l2", 1e-4, "sparsity_regularized: L2 before pruning")
flags.DEFINE_float("sr_prune_from", 0.67, "sparsity_regularized: share of the epochs, or step")
flags.DEFINE_enum(
    "sr_survivors", "binary", ["binary", "ternary"], "sparsity_regularized: weights once pruned"
)
flags.DEFINE_integer("gtc_largest_bits", 2, "GTC: 2^this magnitudes to begin with; 0: ternary")
flags.DEFINE_float("gtc_distortion", 1e-2, "GTC: pull of the weights to their levels")
flags.DEFINE_float("gtc_level_penalty", 2e-3, "GTC: cost of levels; larger leaves fewer")
flags.DEFINE_float("gtc_warm_up", 0.1, "GTC: share of the epochs, or step, with all levels")
flags.DEFINE_float("gtc_frozen_from", 0.8, "GTC: share of the epochs, or step, of fixed levels")

# What must not change between a run and its resumption.
IDENTITY = (
    "dataset",
    "data_dir",
    "image_size",
    "split",
    "apart",
    "leave_out",
    "model",
    "depth",
    "width",
    "phi",
    "method",
    "policy",
    "epochs",
    "float_epochs",
    "float_weights",
    "ternary_start",
    "seed",
    "batch_size",
    "steps_per_epoch",
    "float_learning_rate",
    "float_weight_decay",
    "learning_rate",
    "distill",
    "distill_temperature",
    "distill_end",
    "teacher",
    "teacher_weights",
    "cycles",
    "ema",
    "recalibrate",
    "cutout",
    "mixup",
    "augment",
    "copies",
    "precision",
    "validation_fraction",
    "centroid_scale",
    "entropy_gain",
    "target_sparsity",
    "sparsity_ramp",
    "frozen_from",
    "prune_int8_from",
    "centroid_learning_rate",
    "start",
    "reference_sign",
)

# The flags under the headings of --help.
SECTIONS: dict[str, tuple[str, ...]] = {
    "data": (
        "dataset",
        "tfds_dir",
        "data_dir",
        "image_size",
        "split",
        "apart",
        "leave_out",
        "validation_fraction",
        "augment",
        "copies",
        "cutout",
        "mixup",
    ),
    "net": ("model", "depth", "width", "phi", "float_weights", "ternary_start"),
    "ternary method": ("method", "policy"),
    "training": (
        "float_epochs",
        "epochs",
        "batch_size",
        "steps_per_epoch",
        "float_learning_rate",
        "float_weight_decay",
        "learning_rate",
        "distill",
        "distill_temperature",
        "distill_end",
        "teacher",
        "teacher_weights",
        "cycles",
        "ema",
        "recalibrate",
        "precision",
        "jit_compile",
        "door",
        "distribute",
    ),
    "run": ("output_dir", "resume", "repeat", "seed", "tensorboard", "verbose"),
    **{
        f"--method={method}": (*knobs.values(), *ALSO.get(method, ()))
        for method, knobs in METHOD_FLAGS.items()
        if knobs
    },
    "super-networks": ("supernet", "target_accuracy", "phis"),
}
