import threading
from contextlib import nullcontext
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback

import deni
from deni import DENI
from deni.data import read_texts
from deni.engine.dropout import MemberDropout, Streams, checkpoint_contexts
from deni.engine.precision import unrounded
from deni.finetune import fine_tune
from deni.models import products
from deni.models.products import are_fast, are_rounded, fast_products
from deni.recipe import Recipe
from deni.training.trainer import PopulationTrainer

START = ("none", "none", "highest", False)  # what torch starts with
ROUNDED = 2e-4  # relative to the largest value: a product in bfloat16 is above 1e-3, one in float32 below 1e-5


def setting():
    cpu, gpu = torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    return cpu, gpu, torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(autouse=True)
def start(monkeypatch):
    """Torch's own settings, and a processor where oneDNN is taken to be faster."""
    before = torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision
    products._restore(("none", "none"))
    assert setting() == START
    has = torch.cpu.get_capabilities()
    if has.get("amx_tile") or not has.get("avx512_f") or torch.accelerator.is_available():
        pytest.skip("oneDNN rounds here, or is not faster")
    monkeypatch.setattr(products._SWITCH, "works", True)
    yield
    products._restore(("none", "none"))
    torch.backends.mkldnn.matmul.fp32_precision, torch.backends.cuda.matmul.fp32_precision = before


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64).to(dtype)


# ---- what is computed ------------------------------------------------------------------------------------------------

PRODUCTS = {
    "linear": (lambda h, w, b: F.linear(h, w, b), [(5, 33, 384), (96, 384), (96,)]),
    "linear of one row": (lambda h, w, b: F.linear(h, w, b), [(1, 384), (96, 384), (96,)]),
    "addmm": (lambda b, h, w: torch.addmm(b, h, w, beta=0.5, alpha=2), [(96,), (40, 384), (384, 96)]),
    "matmul": (lambda h, w: h @ w.transpose(-1, -2), [(3, 4, 25, 32), (3, 4, 25, 32)]),
    "bmm": (lambda h, w: torch.bmm(h, w.transpose(1, 2)), [(10, 40, 384), (10, 96, 384)]),
    "baddbmm": (lambda b, h, w: torch.baddbmm(b, h, w.transpose(1, 2)), [(10, 1, 96), (10, 40, 384), (10, 96, 384)]),
    "einsum": (lambda h, w: torch.einsum("mnd,mod->mno", h, w), [(4, 40, 384), (4, 96, 384)]),
    "vmap": (lambda h, w: torch.func.vmap(F.linear)(h, w), [(4, 40, 384), (4, 96, 384)]),
    "checkpointed": (lambda h, w: checkpoint(F.linear, h, w, use_reentrant=False), [(40, 384), (96, 384)]),
    "attention": (F.scaled_dot_product_attention, [(4, 3, 25, 32)] * 3),
    "causal": (lambda *each: F.scaled_dot_product_attention(*each, is_causal=True, scale=0.3), [(4, 3, 25, 32)] * 3),
    "groups": (
        lambda *each: F.scaled_dot_product_attention(*each, enable_gqa=True),
        [(2, 6, 25, 32), (2, 3, 25, 32), (2, 3, 25, 32)],
    ),
    "by name": (lambda q, k, v: F.scaled_dot_product_attention(query=q, key=k, value=v), [(4, 3, 25, 32)] * 3),
    "long attention": (F.scaled_dot_product_attention, [(1, 2, 150, 32)] * 3),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_and_gradients_have_the_accuracy_of_float32(name):
    function, shapes = PRODUCTS[name]
    results = []
    for dtype in (torch.float64, torch.float32):
        tensors = [draw(*shape[:-1], shape[-1] + at)[..., : shape[-1]] for at, shape in enumerate(shapes)]
        tensors = [each.to(dtype).requires_grad_() for each in tensors]
        with fast_products():
            out = function(*tensors)
            out.backward(draw(*out.shape, dtype=dtype))
        results.append([out.detach(), *(each.grad for each in tensors)])
    for exact, ours in zip(*results, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).abs().max() < ROUNDED / 10 * exact.abs().max()


def test_a_product_in_bfloat16_would_not_pass():
    h, weight = draw(40, 384), draw(96, 384)
    exact = h.double() @ weight.double().t()
    assert (F.linear(h.bfloat16(), weight.bfloat16()) - exact).abs().max() > ROUNDED * 5 * exact.abs().max()


def test_the_products_are_others_than_those_outside():
    """So that the tests above are of them."""
    h, weight = draw(200, 384), draw(1536, 384)
    with fast_products():
        inside = F.linear(h, weight)
    assert not torch.equal(inside, F.linear(h, weight))


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("how", ["backward", "grad"])
def test_attention_that_is_checkpointed_is_computed_again_as_before(how, dropout):
    query, key, value = (draw(4, 3, 25, size).requires_grad_() for size in (32, 32, 16))
    streams = Streams([torch.Generator()])

    def gradients(**options):
        with MemberDropout(streams) if dropout else nullcontext():
            out = (
                checkpoint(F.scaled_dot_product_attention, query, key, value, use_reentrant=False, **options)
                if options
                else F.scaled_dot_product_attention(query, key, value)
            )
        if how == "grad":
            return torch.autograd.grad(out.square().sum(), [query, key, value])
        query.grad = key.grad = value.grad = None
        out.square().sum().backward()
        return query.grad, key.grad, value.grad

    with fast_products():
        ours, plain = gradients(context_fn=checkpoint_contexts), gradients()
        assert all(map(torch.equal, ours, plain))
    expected = gradients()
    assert not all(map(torch.equal, ours, expected))  # so they are of other products
    assert all(
        (one - other).abs().max() < ROUNDED * other.abs().max() for one, other in zip(ours, expected, strict=True)
    )
    assert all(map(torch.equal, gradients(context_fn=checkpoint_contexts), expected))  # nothing stays


@pytest.mark.parametrize("mask", ["bool", "float"])
def test_attention_with_a_mask_is_that_of_torch_also_where_a_row_sees_nothing(mask):
    query, key, value = draw(4, 3, 25, 32), draw(4, 3, 25, 32) / 2, draw(4, 3, 25, 32) * 2
    seen = torch.ones(4, 1, 25, 25, dtype=torch.bool)
    seen[1, ..., 20:] = seen[2, :, 3] = False
    given = seen if mask == "bool" else torch.zeros(seen.shape).masked_fill_(~seen, -1e4)
    expected = F.scaled_dot_product_attention(query, key, value, given)
    with fast_products():
        ours = F.scaled_dot_product_attention(query, key, value, given)
    assert torch.isfinite(ours).all()
    assert (ours - expected).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_stay_as_they_are_to_the_bit(dtype):
    query = draw(2, 3, 25, 32, dtype=dtype)
    one, other = draw(40, 384, dtype=dtype), draw(384, 96, dtype=dtype)
    with fast_products():
        inside = F.scaled_dot_product_attention(query, query, query), one @ other
    assert torch.equal(inside[0], F.scaled_dot_product_attention(query, query, query))
    assert torch.equal(inside[1], one @ other)


def test_autocast_stays_as_it_is_to_the_bit():
    query, weight = draw(2, 3, 25, 32), draw(32, 32)

    def compute():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return F.scaled_dot_product_attention(query, query, query), query @ weight

    with fast_products():
        inside = compute()
    assert all(map(torch.equal, inside, compute()))


# ---- which way a product goes ----------------------------------------------------------------------------------------

SMALL = {
    "a row": (F.linear, [(1, 1, 384), (1536, 384), (1536,)]),
    "a row of each member": (torch.baddbmm, [(3, 1, 384), (3, 1, 384), (3, 384, 384)]),
    "a row without a bias": (torch.bmm, [(3, 1, 384), (3, 384, 384)]),
    "a row of a Conv1D": (torch.addmm, [(1536,), (1, 384), (384, 1536)]),
    "LoRA on few rows": (F.linear, [(8, 1, 384), (64, 384)]),
    "attention of a token": (F.scaled_dot_product_attention, [(2, 12, 1, 32), (2, 12, 300, 32), (2, 12, 300, 32)]),
    "attention of a token on few": (F.scaled_dot_product_attention, [(2, 3, 1, 32), (2, 3, 20, 32), (2, 3, 20, 32)]),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_products_without_gradients_are_those_of_mkl(name):
    function, shapes = SMALL[name]
    tensors = [draw(*shape) for shape in shapes]
    with torch.no_grad():
        expected = function(*tensors)
        with fast_products():
            inside = function(*tensors)
            assert setting()[2] == "medium"
    assert torch.equal(inside, expected)


@pytest.mark.parametrize(("rows", "same"), [(1, True), (200, False)])
def test_many_rows_are_multiplied_by_onednn(rows, same):
    h, weight = draw(rows, 384), draw(1536, 384)
    with torch.no_grad(), fast_products():
        inside = F.linear(h, weight)
    assert torch.equal(inside, F.linear(h, weight)) is same


def attend(tokens, features=32):
    """Attention and its gradients."""
    given = [draw(2, 3, tokens, features + at)[..., :features].clone().requires_grad_() for at in range(3)]
    out = F.scaled_dot_product_attention(*given, attn_mask=draw(2, 1, tokens, tokens))
    out.backward(draw(*out.shape))
    return [out.detach(), *(each.grad for each in given)]


@pytest.mark.parametrize(("tokens", "features", "same"), [(150, 32, True), (256, 64, True), (600, 32, False)])
def test_long_attention_with_narrow_heads_is_that_of_mkl_with_its_gradients(tokens, features, same):
    expected = attend(tokens, features)
    with fast_products():
        inside = attend(tokens, features)
        assert setting()[2] == "medium"
    assert all(map(torch.equal, inside, expected)) is same
    assert setting() == START


def test_an_error_in_the_backward_pass_of_attention_leaves_no_trace():
    given = [draw(2, 3, 150, 32).requires_grad_() for _ in range(3)]

    @fast_products()
    def fail():
        out = F.scaled_dot_product_attention(*given)
        with torch.no_grad():
            given[0].add_(1)
        out.sum().backward()

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        fail()
    assert setting() == START
    with fast_products():
        assert setting()[2] == "medium"


def test_while_another_thread_computes_nothing_is_switched_off():
    h, weight = draw(1, 384), draw(1536, 384)
    with torch.no_grad(), fast_products():
        by_mkl = F.linear(h, weight)
        products._SWITCH.users += 1
        try:
            assert not torch.equal(F.linear(h, weight), by_mkl)
        finally:
            products._SWITCH.users -= 1


def test_what_the_user_sets_inside_stays_over_a_small_product():
    h, weight = draw(1, 384), draw(1536, 384)
    with torch.no_grad(), fast_products():
        torch.set_float32_matmul_precision("high")
        F.linear(h, weight)
    assert setting()[2] == "high"


# ---- where -----------------------------------------------------------------------------------------------------------


def test_where_it_is_not_faster_nothing_changes(monkeypatch):
    monkeypatch.setattr(products._SWITCH, "works", None)
    monkeypatch.setattr(products, "_is_faster", lambda: False)
    with fast_products():
        assert setting() == START
    assert products._SWITCH.works is False
    assert not are_fast()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_a_processor_on_which_products_are_rounded_is_found(monkeypatch, kind):
    class Rounding(TorchFunctionMode):
        """What oneDNN does with AMX; TF32 has the digits of float16."""

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.__matmul__, torch.Tensor.matmul) and args[0].dtype == torch.float32:
                args = [each.to(kind).float() for each in args]
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(products, "_is_faster", lambda: True)
    for mode, works in ((None, True), (Rounding(), False)):
        monkeypatch.setattr(products._SWITCH, "works", None)
        if mode is None:
            assert are_fast() is works
        else:
            with mode:
                assert are_fast() is works
        assert setting() == START


@pytest.mark.parametrize(
    "has",
    [
        {"cpu_name": "Intel Xeon 8480", "avx512_f": True, "avx_vnni": True, "amx_tile": True},
        {"cpu_name": "AMD EPYC 9654", "avx512_f": True},
        {"cpu_name": "AMD EPYC 7763"},
        {"architecture": "arm64"},
    ],
    ids=["Intel", "Zen 4", "Zen 3", "ARM"],
)
def test_processors_that_were_not_measured_keep_their_products(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert products._is_faster() is False


def test_the_decision_is_the_same_under_autocast_and_in_inference_mode(monkeypatch):
    monkeypatch.setattr(products, "_is_faster", lambda: True)
    monkeypatch.setattr(products._SWITCH, "works", None)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert are_fast()


# ---- the setting of the process --------------------------------------------------------------------------------------


def test_the_setting_is_given_back_also_after_an_error_and_within_another():
    @fast_products()
    def fail():
        with fast_products():
            pass
        assert setting() != START
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert setting() == START


def test_inside_others_can_read_the_setting_by_its_old_names():
    with fast_products():
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_a_setting_of_the_user_that_allows_rounding_is_left_alone(name):
    torch.backends.mkldnn.matmul.fp32_precision = name
    with fast_products():
        assert not are_fast()
        assert torch.backends.mkldnn.matmul.fp32_precision == name
        assert torch.backends.cuda.matmul.fp32_precision == "none"
    assert torch.backends.mkldnn.matmul.fp32_precision == name
    assert are_rounded()


@pytest.mark.parametrize("name", ["medium", "high", "highest"])
def test_a_setting_by_the_old_function_is_given_back(name):
    torch.set_float32_matmul_precision(name)
    before = setting()
    with fast_products():
        assert are_fast() is (name == "highest")
    assert setting() == before
    assert are_rounded() is (name != "highest")


def test_who_switches_onednn_off_keeps_the_products_of_mkl(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    h, weight, query = draw(200, 384), draw(1536, 384), draw(2, 3, 25, 32)
    with fast_products():
        inside = F.linear(h, weight), F.scaled_dot_product_attention(query, query, query)
        assert setting() == START
    assert torch.equal(inside[0], F.linear(h, weight))
    assert torch.equal(inside[1], F.scaled_dot_product_attention(query, query, query))


def test_what_the_user_sets_inside_stays():
    with fast_products():
        torch.set_float32_matmul_precision("high")
    assert setting()[2] == "high"


def test_the_first_thread_that_ends_does_not_switch_it_off_for_another():
    h, weight = draw(200, 384), draw(1536, 384)
    with fast_products():
        expected = F.linear(h, weight)
    entered, may_end, seen = threading.Event(), threading.Event(), []

    def other():
        with fast_products():
            entered.set()
            may_end.wait(60)
            seen.append(F.linear(h, weight))

    thread = threading.Thread(target=other)
    with fast_products():
        thread.start()
        assert entered.wait(60)
    assert setting() != START  # the other one goes on
    may_end.set()
    thread.join(60)
    assert torch.equal(seen[0], expected)
    assert setting() == START


def test_overlapping_with_what_must_not_be_rounded_leaves_no_trace():
    """In either order of ending, as two threads would."""
    for first_out in (0, 1):
        contexts = [fast_products(), unrounded()]
        for each in contexts:
            each.__enter__()
        contexts[first_out].__exit__(None, None, None)
        contexts[1 - first_out].__exit__(None, None, None)
        assert setting() == START


# ---- training and prediction -----------------------------------------------------------------------------------------


class Reading(TrainerCallback):
    """Reads the setting wherever a callback runs."""

    def __init__(self):
        self.read = set()

    def on_step_begin(self, *args, **options):
        self.read.add(setting())

    on_step_end = on_prediction_step = on_evaluate = on_log = on_train_end = on_step_begin


class Asking(PopulationTrainer):
    """A subclass whose loss reads the setting, where products are computed."""

    read: ClassVar = set()

    def compute_loss(self, *args, **options):
        self.read.add(setting()[2:])
        return super().compute_loss(*args, **options)


def test_callbacks_see_the_settings_of_torch_and_losses_can_read_them(tickets, model_folder, monkeypatch):
    reading = Reading()
    monkeypatch.setattr("deni.finetune.making.PopulationTrainer", Asking)
    recipe = Recipe.of(strategy="deni", model=model_folder, epochs=4)
    fine_tune(read_texts(tickets), recipe, dev=read_texts(tickets), progress=False, callbacks=[reading])
    assert reading.read == {START}
    assert Asking.read == {("medium", True)}
    assert setting() == START


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_trainer_and_artifact_predict_the_same_bits_with_these_products(tickets, tmp_path, tuning, monkeypatch):
    """The real MiniLM, since the products of a tiny model are the same by both libraries."""
    texts = read_texts(tickets)
    done = fine_tune(
        texts, Recipe.of(strategy=DENI(members=3), tuning=tuning, model="minilm", epochs=1), progress=False
    )
    done.save(tmp_path / "model")
    classifier = done.classifier(progress=False)
    loaded = deni.load(tmp_path / "model")
    expected = classifier.members(texts.texts)
    assert (loaded.members(texts.texts) == expected).all()
    monkeypatch.setattr(products._SWITCH, "works", False)
    assert (loaded.members(texts.texts) != expected).any()
    assert abs(loaded.members(texts.texts) - expected).max() < 1e-4
