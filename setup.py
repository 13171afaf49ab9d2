"""What pyproject.toml cannot say: the wheel carries conf/, which stays at the top of the tree."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["twinweave", "twinweave.*"]), "twinweave.conf"],
    package_dir={"twinweave.conf": "conf"},
    package_data={
        "twinweave": ["py.typed"],
        "twinweave.conf": ["*.yaml", "*/*.yaml", "*/*/*.yaml"],
    },
)
