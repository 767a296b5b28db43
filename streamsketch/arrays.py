"""Names of array types, the same everywhere."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["F32", "F64", "I32", "I64", "Mask"]

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
