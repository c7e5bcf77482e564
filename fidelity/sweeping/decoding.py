"""Encoded bytes from anywhere to the array that the model takes, or the reason why not."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fidelity.errors import BadInput
from fidelity.models.input_contract import InputContract
from fidelity.report.printable import printable

FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "BMP", "GIF", "TIFF")
"""Those of IMAGE_SUFFIXES and no other: a file is what its content says, and some formats start programs."""


def decode_image(content: bytes, contract: InputContract) -> NDArray[np.float32]:
    """The image under the contract, float32 [1, 3, H, W].

    Raises BadInput for anything that is no image, is cut, or whose pixels would be more than Pillow's limit, which
    its header tells before anything is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.load()
                return contract.photograph(image)
    except BadInput:
        raise
    # Pillow's decoders raise whatever a broken file leads them to: SyntaxError, struct.error, IndexError, zlib.error
    except Exception as error:
        # the message of one names an object by its address, which is another in every run
        why = str(error) if "0x" not in str(error) else type(error).__name__
        raise BadInput(f"not an image that can be read: {printable(' '.join(why.split()), 160)}") from error
