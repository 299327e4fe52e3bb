from ._optimizer import OptaxOptimizer
from ._parameter import Parameter, combine_state, named_parameters, partition_state
