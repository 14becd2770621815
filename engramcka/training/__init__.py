"""Training models, one at a time, for comparison and for layer sweeps."""

from engramcka.training.record import TrainingRecord, read_record
from engramcka.training.train import train_model, validation_loss

__all__ = ["TrainingRecord", "read_record", "train_model", "validation_loss"]
