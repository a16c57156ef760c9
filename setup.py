"""Build entry: three source rooms, one installed package.

`train/` is installed as `ec2t_tf.train` and `export/` as `ec2t_tf.export`.
"""

from setuptools import find_packages, setup

ROOMS = {"ec2t_tf": "ec2t_tf", "ec2t_tf.train": "train", "ec2t_tf.export": "export"}


def packages_of(name: str, folder: str) -> list[str]:
    return [name] + [f"{name}.{child}" for child in find_packages(folder)]


setup(
    name="ec2t_tf",
    version="0.1.0",
    description="Sparse ternary networks for Keras: trained, exported, run on small devices",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=[package for name, folder in ROOMS.items() for package in packages_of(name, folder)],
    package_dir=ROOMS,
    install_requires=[
        "absl-py",
        "ai-edge-litert>=2.0",
        "keras>=3.10",
        "numpy",
        "tensorflow>=2.21,<2.22",
        "tensorflow-model-optimization==0.8.*",
        "tf_keras>=2.21,<2.22",
    ],
    extras_require={
        "train": [
            "importlib_resources",  # tensorflow-datasets needs it and does not declare it
            "matplotlib",
            "scikit-learn",
            "tensorflow-datasets",
        ],
        "dev": ["clang-format", "hypothesis", "mypy", "pytest", "ruff"],
    },
)
