"""What holds for every registered estimator, whatever it is."""

import ast
import copy
import io
import sys
from pathlib import Path

import pytest
import torch

import estimators
from estimators import BitVector, Categorical, Categoricals, Estimator, LatentLinear, Latents, RandomDraws, expected_loss
from estimators.options import label
from estimators.registry import REGISTRY
from estimators.spaces import CAPABILITIES, Space

K = 6
SPACES = {"categorical": Categorical, "bit_vector": BitVector, "categoricals": lambda scores: Categoricals(scores, 3)}
"""Six states, six bits, or two variables of three states each."""

# Options beyond those that estimators are certified with: defaults, more samples than states, and the other branches.
MORE = {
    "score_function": [
        {"samples": 4},
        {"baseline": "sampled_self_critic", "samples": 2},
        {"baseline": "nvil", "normalise_variance": True, "samples": 2},
    ],
    "sum_and_sample": [{"summed": 9, "baseline": "moving_average"}],
    "unordered_set": [{}, {"samples": 8, "baseline": False}],
    "arms": [{}],
    "vimco": [{}],
    "relax": [{"learned": False, "hidden_size": 3}],
    "reinmax": [{"temperature": 1.3}],
    "entmax": [{"alpha": 1.1}],
    "top_k_sparsemax": [{}],
}


def served(name, options):
    estimator = REGISTRY[name].make(**options)
    return [latent for latent, space in SPACES.items() if not estimators.misfit(estimator, space(torch.zeros(1, K)))]


VARIANTS = {
    f"{label(name, options)} of {latent}": (name, options, latent)
    for name, registered in REGISTRY.items()
    for options in (*registered.certified, *registered.certified_wide, *MORE.get(name, []))
    for latent in served(name, options)
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


@pytest.fixture
def estimator(variant):
    name, options, _ = variant
    return estimators.build(name, **options)


@pytest.fixture
def space(variant):
    return SPACES[variant[2]]


class Decoder(torch.nn.Module):
    """Losses of pairs, and a count of the rows that were really decoded."""

    def __init__(self, dtype=torch.float32, batch_size=5):
        super().__init__()
        torch.manual_seed(1)
        self.table = LatentLinear(K, 3).to(dtype)
        self.bias = torch.nn.Parameter(torch.randn(batch_size, 3, dtype=dtype))
        self.rows, self.calls = 0, 0

    def forward(self, latents: Latents):
        hidden = self.table(latents) + latents.gather(self.bias)
        self.rows, self.calls = self.rows + len(hidden), self.calls + 1
        return hidden.square().sum(1) + 1


def scores_of(dtype=torch.float32, batch_size=5, scale=0.5):
    torch.manual_seed(0)
    return (scale * torch.randn(batch_size, K, dtype=torch.float64)).to(dtype).requires_grad_()


CONTEXT = torch.linspace(-1, 1, 20).view(5, 4)


def run(estimator, space, loss_function, seed=0):
    """An estimate with a generator of its own; torch's default one gives lazy parameters their first values."""
    torch.manual_seed(3)
    context = CONTEXT[: space.batch_size]
    return estimator(space, loss_function, context=context, generator=torch.Generator().manual_seed(seed))


def propose(estimator, space, seed=0):
    return estimator.propose(space, RandomDraws(torch.Generator().manual_seed(seed)), CONTEXT[: space.batch_size])


def test_variants_cover_the_registry_and_every_latent():
    assert {name for name, _, _ in VARIANTS.values()} == set(estimators.ESTIMATORS)
    assert {latent for _, _, latent in VARIANTS.values()} == set(SPACES)


@pytest.mark.parametrize("batch_size", [5, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_costs_weights_and_gradients(estimator, space, dtype, batch_size):
    scores, decoder = scores_of(dtype, batch_size), Decoder(dtype, batch_size)
    estimate = run(estimator, space(scores), decoder)
    assert decoder.calls == 1
    assert decoder.rows == int(estimate.decoder_calls.sum()) == len(estimate.weights)
    assert estimate.decoder_calls.shape == (batch_size,)
    assert estimate.decoder_calls.min() >= 1
    for field in (estimate.surrogate, estimate.value, estimate.entropy):
        assert field.shape == (batch_size,)
        assert torch.isfinite(field).all()
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    assert estimate.surrogate.dtype == estimate.value.dtype == estimate.entropy.dtype == precise
    assert not estimate.value.requires_grad
    assert not estimate.weights.requires_grad
    assert estimate.entropy.requires_grad
    assert estimate.auxiliary.shape == ()
    (estimate.surrogate - estimate.entropy).mean().backward()
    for parameter in (scores, *decoder.parameters()):
        assert parameter.grad.dtype == dtype
        assert torch.isfinite(parameter.grad).all()
    assert scores.grad.abs().sum() > 0
    assert sum(float(parameter.grad.abs().sum()) for parameter in decoder.parameters()) > 0


def test_weights_sum_to_one_for_each_example(estimator, space):
    proposal = propose(estimator, space(scores_of(torch.float64)))
    assert (proposal.weights >= 0).all()
    if "beyond_budget" in proposal.metrics and proposal.metrics["beyond_budget"].any():
        pytest.skip("a weighted sample: its weights sum to one in expectation, which test_bounded_sparse.py shows")
    torch.testing.assert_close(proposal.pairs.sum(proposal.weights), torch.ones(5, dtype=torch.float64))
    assert torch.equal(proposal.pairs.row, proposal.pairs.row.sort().values)


def test_probabilities_are_the_distribution(estimator, space):
    scores = scores_of(torch.float64)
    q = estimator.probabilities(space(scores))
    assert q.shape == (5, space(scores).states)
    torch.testing.assert_close(q.sum(1), torch.ones(5, dtype=torch.float64))
    terms = torch.where(q > 0, q * q.clamp(min=1e-300).log(), 0)
    torch.testing.assert_close(propose(estimator, space(scores)).entropy, -terms.sum(1))


def test_masked_states_get_no_mass_and_no_gradient(estimator, space):
    scores = scores_of(torch.float64)
    mask = torch.zeros(5, K, dtype=torch.bool)
    left = space(scores).vectors(space(scores).all_states()[:, 1:2])[0, 0] > 0  # one state in the first row
    mask[0] = ~left
    mask[1, 2] = mask[2, ::2] = True
    masked = scores.masked_fill(mask, -torch.inf)
    for seed in range(20):
        proposal = propose(estimator, space(masked), seed)
        value = proposal.pairs.value
        chosen = torch.where(proposal.pairs.gather(mask), value * proposal.weights.unsqueeze(1), 0)
        assert chosen.abs().max() == 0
    every = space(masked).vectors(space(masked).all_states())
    mean = (estimator.probabilities(space(masked)).unsqueeze(2) * every).sum(1)
    assert mean[mask].abs().max() == 0
    masked = masked.detach().requires_grad_()
    estimate = run(estimator, space(masked), Decoder(torch.float64))
    (gradient,) = torch.autograd.grad((estimate.surrogate - estimate.entropy).sum(), masked)
    assert torch.isfinite(gradient).all()
    assert gradient[mask].abs().max() == 0


def test_non_contiguous_scores(estimator, space):
    scores = scores_of(torch.float64)
    strided = scores.detach().t().contiguous().t().requires_grad_()
    assert not strided.is_contiguous()
    expanded = torch.zeros(1, 1, dtype=torch.float64).expand(5, K).requires_grad_()
    run(estimator, space(expanded), Decoder(torch.float64)).surrogate.sum().backward()
    results = []
    for each in (scores, strided):
        estimate = run(copy.deepcopy(estimator), space(each), Decoder(torch.float64))
        results.append((estimate.value, torch.autograd.grad(estimate.surrogate.sum(), each)[0]))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right)


def test_a_generator_makes_it_reproducible(estimator, space):
    first, second = (run(copy.deepcopy(estimator), space(scores_of()), Decoder()).surrogate for _ in range(2))
    assert torch.equal(first, second)


def test_state_survives_a_checkpoint(estimator, space):
    for seed in range(3):
        run(estimator, space(scores_of()), Decoder(), seed)
    stream = io.BytesIO()
    torch.save(estimator.state_dict(), stream)
    stream.seek(0)
    other = copy.deepcopy(estimator)
    with torch.no_grad():
        for tensor in (*other.buffers(), *other.parameters()):
            tensor.zero_()
    other.load_state_dict(torch.load(stream, weights_only=True))
    left, right = (run(each, space(scores_of()), Decoder()).surrogate for each in (estimator, other))
    assert torch.equal(left, right)


def test_all_changing_state_is_registered(estimator, space):
    """Training must change nothing but what a checkpoint holds."""

    def plain(module):
        return {
            (name, key): value
            for name, child in module.named_modules()
            for key, value in vars(child).items()
            if not key.startswith("_") and key != "training" and not callable(value)
        }

    run(estimator, space(scores_of()), Decoder())  # gives lazy parameters their sizes
    before = copy.deepcopy(plain(estimator))
    for _ in range(3):
        run(estimator, space(scores_of()), Decoder())
    assert plain(estimator) == before


def test_evaluation_mode_freezes_the_state(estimator, space):
    run(estimator, space(scores_of()), Decoder())
    before = {name: buffer.clone() for name, buffer in estimator.named_buffers()}
    estimator.eval()
    run(estimator, space(scores_of()), Decoder())
    assert all(torch.equal(buffer, before[name]) for name, buffer in estimator.named_buffers())


def test_pairs_of_no_weight_have_no_gradient_in_the_decoder(estimator, space):
    """A baseline's extra pairs are read, never trained."""
    losses: list[torch.Tensor] = []

    def loss_function(latents):
        losses.append(torch.rand(len(latents), generator=torch.Generator().manual_seed(0)).requires_grad_())
        return losses[0] if latents.index is not None else losses[0] + 0 * latents.value.sum(1)

    if estimator.objective is not expected_loss:
        pytest.skip("another objective: its gradient in the losses depends on them")
    estimate = run(estimator, space(scores_of()), loss_function)
    (gradient,) = torch.autograd.grad(estimate.surrogate.sum(), losses[0])
    torch.testing.assert_close(gradient, estimate.weights)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(estimator, space, bad):
    scores = scores_of().detach().clone()
    scores[3, 1] = bad
    with pytest.raises(FloatingPointError, match="example 3"):
        run(estimator, space(scores), Decoder())


def test_an_example_with_every_state_masked_is_refused(estimator, space):
    scores = scores_of().detach().clone()
    scores[2] = -torch.inf
    if space is BitVector:  # every bit is off
        proposal = propose(estimator, space(scores))
        weighted = proposal.pairs.value * proposal.weights.unsqueeze(1)
        assert weighted[proposal.pairs.row == 2].abs().max() == 0
        return
    with pytest.raises(FloatingPointError, match="example 2"):
        run(estimator, space(scores), Decoder())


@pytest.mark.parametrize("scores", [torch.zeros(3), torch.zeros(3, 0), torch.zeros(2, 3, dtype=torch.int64)])
def test_scores_of_the_wrong_kind_are_refused(estimator, space, scores):
    with pytest.raises(ValueError, match="scores must be floating point"):
        run(estimator, space(scores), Decoder())


def test_losses_of_the_wrong_shape_are_refused(estimator, space):
    with pytest.raises(ValueError, match="the loss function must return"):
        run(estimator, space(scores_of()), lambda latents: torch.zeros(()))


def test_every_estimator_declares_what_it_is(estimator):
    assert isinstance(estimator, Estimator)
    assert type(estimator).__mro__[1] is Estimator
    assert isinstance(estimator.unbiased, bool)
    assert isinstance(estimator.uses, frozenset)
    assert set() < estimator.uses <= CAPABILITIES.keys()
    for part in ("math::", "Decoder calls:", "Choose it", "References:", "https://"):
        assert part in type(estimator).__doc__


def recording(space, called):
    """The same space, which notes what it is asked for; not what its own methods ask of one another."""
    inside = []

    def noted(capability, method):
        def call(self, *arguments):
            if not inside:
                called.add(capability)
            inside.append(capability)
            try:
                return method(self, *arguments)
            finally:
                inside.pop()

        return call

    methods = {name: noted(name, getattr(type(space), name)) for name in CAPABILITIES if not space.lacks(name)}
    # What comes with a capability counts as that.
    methods["mean"] = property(noted("noisy_scores", lambda self: super(self.__class__, self).mean))
    space.__class__ = type("Recording", (type(space),), methods)
    return space


@pytest.mark.parametrize(("name", "options"), {label(*each[:2]): each[:2] for each in VARIANTS.values()}.values())
def test_an_estimator_asks_a_space_for_what_it_declares_and_for_nothing_else(name, options):
    asked = set()
    for latent in served(name, options):
        estimator, called = estimators.build(name, **options), set()
        run(estimator, recording(SPACES[latent](scores_of()), called), Decoder())
        assert called <= estimator.uses
        asked |= called
    assert asked == estimator.uses


def test_a_space_that_lacks_any_of_it_is_refused_with_what_is_missing(estimator, space):
    for capability in estimator.uses:
        poorer = space(scores_of())
        poorer.__class__ = type("Poorer", (type(poorer),), {capability: getattr(Space, capability)})
        message = f"name: {type(estimator).__name__} does not fit: a {poorer.name} latent cannot {CAPABILITIES[capability]}"
        with pytest.raises(estimators.OptionError) as caught:
            estimators.check_fit(estimator, poorer)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "options", "option"),
    [
        ("score_function", {"samples": 0}, "samples"),
        ("score_function", {"baseline": "leave_one_out"}, "samples"),
        ("score_function", {"baseline": "nothing"}, "baseline"),
        ("score_function", {"decay": 0.0}, "decay"),
        ("score_function", {"decay": 1.5}, "decay"),
        ("gumbel_softmax", {"temperature": 0.0}, "minimum_temperature"),
        ("gumbel_softmax", {"temperature": 0.2}, "minimum_temperature"),
        ("gumbel_softmax", {"decay_rate": -1.0}, "decay_rate"),
        ("gumbel_softmax", {"update_every": 0}, "update_every"),
        ("entmax", {"alpha": 1.0}, "alpha"),
        ("entmax", {"alpha": 2.1}, "alpha"),
        ("entmax", {"alpha": 1.0000001}, "alpha"),
        ("entmax", {"alpha": 2.0, "learned": True}, "alpha"),
        ("score_function", {"hidden_size": 0}, "hidden_size"),
        ("sum_and_sample", {"summed": 0}, "summed"),
        ("sum_and_sample", {"baseline": "leave_one_out"}, "baseline"),
        ("sum_and_sample", {"decay": 0.0}, "decay"),
        ("sum_and_sample", {"hidden_size": 0}, "hidden_size"),
        ("unordered_set", {"samples": 1}, "samples"),
        ("unordered_set", {"samples": 13}, "samples"),
        ("vimco", {"samples": 1}, "samples"),
        ("vimco", {"weights": "none"}, "weights"),
        ("arms", {"samples": 1}, "samples"),
        ("rebar", {"temperature": 0.0}, "temperature"),
        ("relax", {"hidden_size": -1}, "hidden_size"),
        ("reinmax", {"temperature": 0.0}, "temperature"),
        ("gumbel_rao", {"noise_samples": 0}, "noise_samples"),
        ("top_k_sparsemax", {"k": 0}, "k"),
        ("bounded_sparse", {"budget": 1}, "budget"),
        ("bounded_sparse", {"budget": 4, "summed": 3}, "summed"),
        ("bounded_sparse", {"summed": -1}, "summed"),
        ("sparse_map", {"budget": 0}, "budget"),
        ("sparse_max", {}, "name"),
    ],
)
def test_options_out_of_range_are_refused_by_name(name, options, option):
    with pytest.raises(estimators.OptionError) as caught:
        estimators.build(name, **options)
    assert caught.value.option == option


def test_the_package_imports_only_torch_entmax_and_numpy():
    allowed = {"estimators", "torch", "entmax", "numpy"} | set(sys.stdlib_module_names)
    for file in Path(estimators.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= allowed, f"{file.name} line {node.lineno}"
