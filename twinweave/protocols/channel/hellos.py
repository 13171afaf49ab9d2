"""A signed hello as text, for the messages that carry it."""

from __future__ import annotations

import json

from twinweave.errors import ChannelError
from twinweave.protocols.channel.keys import Hello


def dump_hello(hello: Hello) -> str:
    return json.dumps(
        {
            "party": hello.party,
            "run_id": hello.run_id,
            "spec_hash": hello.spec_hash,
            "public_key": hello.public_key.hex(),
            "signature": hello.signature.hex(),
        }
    )


def load_hello(text: str) -> Hello:
    """Raises ChannelError on anything but the text of a hello."""
    try:
        data = json.loads(text)
        data["public_key"] = bytes.fromhex(data["public_key"])
        data["signature"] = bytes.fromhex(data["signature"])
        return Hello(**data)
    except (ValueError, TypeError, KeyError):
        raise ChannelError("a hello is malformed. Send one of this version.") from None
