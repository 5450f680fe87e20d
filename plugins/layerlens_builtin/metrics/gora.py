"""GoRA's importance (arXiv 2502.12171): how much the weights that are there matter to what the data ask for.

    I = mean over the entries of |W ⊙ Ḡ|,  Ḡ the mean gradient over all samples

The unit is nats a weight. `weight_gradient` is its cheaper sibling: it takes absolute values in groups of two samples
and averages afterwards, so that gradients that cancel between samples count there, and hardly do here.

Limits: Ḡ of few samples is mostly noise, which absolute values do not average out. Ḡ is formed whole, 4 bytes a weight,
in as many passes as memory asks for. GoRA adds up Ḡ over 32 to 64 steps of its own loss; here it is that of samples.
"""

from layerlens_core.plugin import ActiveProfile, mean_gradients, plain_weight


def score(context: ActiveProfile) -> dict[str, float]:
    """Mean |W ⊙ Ḡ| of every module. Raises `ModelError` where a weight cannot be read, and `NonFiniteError`."""
    return {
        name: float((plain_weight(context, name).to(gradient) * gradient).abs().double().mean())
        for name, gradient in mean_gradients(context)
    }
