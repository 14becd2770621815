from .record import TrainingRecord as TrainingRecord
from .record import read_record as read_record
from .train import train_model as train_model
from .train import validation_loss as validation_loss
