"""`SOAP`: Adam in Shampoo's eigenbasis; neither library has it."""

from parallel_params.optim.checks import check_beta, check_count, check_eps
from parallel_params.optim.matrices import check_matrices
from parallel_params.optim.optimizer import Optimizer
from parallel_params.optim.rates import RateLike
from parallel_params.optim.rules.soap import SoapRule


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner, for matrices only.

    State: `exp_avg`, `exp_avg_sq`, `gram`, `basis`. A matrix is moved by one owner;
    biases, norms and the like go to a second optimizer. One-sided, see `SoapRule`.

    Args:
        params: see `Optimizer`; all of two dims.
        learning_rate: see `Optimizer`.
        beta1: memory of the first moment.
        beta2: memory of the second moment, in the eigenbasis.
        eps: added to the root of the corrected second moment.
        weight_decay: taken off the weight, times the weight and the learning rate.
        shampoo_beta: memory of the preconditioner.
        precondition_frequency: steps between two turns of the basis.

    Raises:
        TypeError: a beta or eps is no float, or the frequency no int.
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
            ),
            params,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
        )
        check_matrices("SOAP", self.parameters)
