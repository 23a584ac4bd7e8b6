"""What goes wrong inside a training and has an answer: memory that runs out, a loss that is no number."""

from __future__ import annotations

# what PyTorch, its GPU libraries and OpenCV say when memory runs out
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "insufficient memory",
    "cublas_status_alloc_failed",
)


class NotFinite(Exception):
    """The loss or the score of an epoch, counted from 1, is no finite number."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"epoch {epoch}: the loss is not finite")
        self.epoch = epoch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on the CPU or the GPU."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)
