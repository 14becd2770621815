from .plan import make_plan as make_plan
from .runner import Outcome as Outcome
from .runner import run_config as run_config
from .tasks import STAGES as STAGES
from .tasks import Stage as Stage
from .tasks import Task as Task
