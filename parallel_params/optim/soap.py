"""`SOAP`: Adam in Shampoo's eigenbasis; neither library has it."""

from parallel_params.optim.checks import check_beta, check_count, check_eps, check_flag
from parallel_params.optim.matrices import check_matrices
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.soap import SoapRule


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner, for matrices only.

    Both sides of a matrix have a basis, where they are not too long: see `SoapRule`.
    The first step moves nothing: its gradient makes the first bases.
    State: `exp_avg`, `exp_avg_sq`, and as many arrays of the matrix's shape as hold two
    squares of either side, `gram_left`, `basis_left`, `gram_right`, ... A matrix is
    moved by one owner; biases, norms and the like go to a second optimizer.

    Args:
        params: see `Optimizer`; all of two dims.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment, in the eigenbasis.
        eps: added to the root of the corrected second moment.
        weight_decay: taken off the weight, times the weight and the learning rate.
        shampoo_beta: memory of the preconditioner.
        precondition_frequency: steps between two turns of the bases.
        max_side: elements of a side; a longer one has no basis. Its square is kept
            twice, and a turn takes a QR of it.
        one_sided: whether only the shorter side has a basis.

    Raises:
        TypeError: a beta or eps is no float, or the frequency or side no int.
        ValueError: a number lies outside its range, or a parameter is no matrix.
    """

    def __init__(
        self,
        params: object,
        learning_rate: RateLike = 3e-3,
        beta1: float = 0.95,
        beta2: float = 0.95,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        shampoo_beta: float = 0.95,
        precondition_frequency: int = 10,
        max_side: int = 4096,
        one_sided: bool = False,
    ) -> None:
        super().__init__(
            SoapRule(
                beta1=check_beta("beta1", beta1),
                beta2=check_beta("beta2", beta2),
                eps=check_eps("eps", eps),
                shampoo_beta=check_beta("shampoo_beta", shampoo_beta),
                frequency=check_count(
                    "precondition_frequency", precondition_frequency, least=1
                ),
                max_side=check_count("max_side", max_side, least=1),
                is_one_sided=check_flag("one_sided", one_sided),
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        check_matrices("SOAP", self.parameters)
