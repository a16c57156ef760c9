"""Build entry: three source rooms, one installed package.

`train/` is installed as `ec2t_tf.train` and `export/` as `ec2t_tf.export`.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOMS = {"ec2t_tf": "ec2t_tf", "ec2t_tf.train": "train", "ec2t_tf.export": "export"}


def packages_of(name: str, folder: str) -> list[str]:
    return [name] + [f"{name}.{child}" for child in find_packages(folder)]


def module_at(file: str) -> ModuleType:
    """A module of the package, before the package can be imported."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, Path(__file__).parent / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildRuntime(build_ext):
    """Builds the runtime's native library; without a C compiler all else is still installed."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")[:-1], module_at("export/litert/library.py").NAME))

    def build_extension(self, extension: Extension) -> None:
        library = module_at("export/litert/library.py")
        output = Path(self.get_ext_fullpath(extension.name))
        try:
            library.build(output)
        except RuntimeError as error:
            print(
                "\nWARNING: the native library of ec2t_tf.export.Interpreter was not built. "
                f"Training and export work without it.\n{error}\n",
                file=sys.stderr,
            )


KERAS = ["keras>=3.10"]
TFMOT = [
    "keras>=3.10",
    "tensorflow>=2.21,<2.22",
    "tensorflow-model-optimization==0.8.*",
    "tf_keras>=2.21,<2.22",
]
REPORT = ["matplotlib"]


def version() -> str:
    text = Path(__file__).with_name("ec2t_tf").joinpath("__init__.py").read_text()
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


setup(
    name="ec2t_tf",
    version=version(),
    description="Sparse ternary networks for Keras: trained, exported, run on small devices",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords="ternary quantization sparsity keras tflite microcontroller cortex-m",
    # Of Python those that the tests were run with: BUILD.md.
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Embedded Systems",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=[package for name, folder in ROOMS.items() for package in packages_of(name, folder)],
    package_dir=ROOMS,
    package_data={
        "ec2t_tf": ["py.typed"],
        "ec2t_tf.export.mcu": ["board/*", "kernels/*", "costs.json"],
        "ec2t_tf.export.features": ["*.c", "*.h"],
        "ec2t_tf.export.formats": ["FORMAT.md"],
        "ec2t_tf.export.kernels": ["*/*.c", "*/*.h", "flags.txt"],
        "ec2t_tf.export.page": ["page.css", "page.js"],
        "ec2t_tf.export.litert": ["*.c", "*.h", "flags.txt"],
        "ec2t_tf.train.trained": ["nets/*"],
        "ec2t_tf.export.tflm": ["*.c", "*.h", "*.cc"],
    },
    # `sources` is empty: export/kernels/build.py knows them.
    ext_modules=[Extension("ec2t_tf.export.litert.library_native", sources=[], optional=True)],
    entry_points={"console_scripts": ["ec2t = ec2t_tf.__main__:main"]},
    cmdclass={"build_ext": BuildRuntime},
    # The file side: reports, file formats, C, the runtime. ec2t_tf/lazy.py names the extras.
    install_requires=[
        "absl-py",
        "ai-edge-litert>=2.0",
        "flatbuffers",
        "numpy",
        "tqdm",
    ],
    extras_require={
        "keras": KERAS,
        "tfmot": TFMOT,
        "report": REPORT,
        "train": [
            *TFMOT,
            *REPORT,
            "importlib_resources",  # tensorflow-datasets needs it and does not declare it
            "pillow",  # images of a folder
            "scikit-learn",
            "seglearn",  # sensor data
            "tensorflow-datasets",
        ],
        # Pinned: another version may warn, and `make docs` is strict.
        "docs": ["mkdocs-material==9.8.2", "mkdocstrings-python==2.0.11"],
        "dev": [
            "clang-format==23.1.5",  # the linters pinned: another version finds other things
            "hypothesis",
            "ipykernel",  # the notebook of examples/
            "jax",
            "mypy==2.4.1",
            "nbclient",
            "pytest",
            "pytest-cov",
            "pytest-xdist",
            "ruff==0.17.6",
            "selenium",  # the HTML report in a browser
            "tensorboard",  # keras.callbacks.TensorBoard
            "tflite-micro",
        ],
    },
)
