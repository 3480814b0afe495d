"""Batches: many items through one pipeline."""

from booking_resilience.batch.outcomes import BatchOutcome, BatchResult
from booking_resilience.batch.run import iter_batch, iter_batch_async, run_batch, run_batch_async

__all__ = ["BatchOutcome", "BatchResult", "iter_batch", "iter_batch_async", "run_batch", "run_batch_async"]
