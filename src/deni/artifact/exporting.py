"""Write an artifact as ordinary transformers models, PEFT adapters, a model of sentence-transformers, or ONNX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from deni.artifact.calibration import fold_temperature, temperature_to_fold
from deni.artifact.classifier import Classifier
from deni.artifact.encoder_modules import why_no_modules, write_modules
from deni.artifact.folder import CARD
from deni.artifact.hub_card import hub_card, of_export
from deni.artifact.loading import load
from deni.artifact.onnx.extra import check_packages
from deni.artifact.onnx.writing import PACKAGES, GraphExport, work_folder
from deni.artifact.publishable import Kind, Publishable, base_of
from deni.artifact.skeleton import write_config
from deni.errors import InputError
from deni.models.architectures import generates
from deni.models.fresh import outside_layers
from deni.models.hugging_face import config_of, hugging_face, with_peft
from deni.models.pairs import encodes_separately
from deni.models.pooling import detach, pooling_of, says
from deni.outputs import check_folder, check_room, write_folder, write_list
from deni.population import Merge, mean_of_members
from deni.tuning.lora import mean_of_products

How = Literal["single", "members", "sentence-transformers", "onnx"]
HOW: tuple[How, ...] = get_args(How)

# Layers that PEFT has put into a model, and those that it has put its own around.
_IN_PEFT = re.compile(r"(^|\.)(original_module|modules_to_save|base_layer|lora_\w+|ia3_\w+|prompt_encoder)(\.|$)")


def export(
    folder: str | Path,
    out: str | Path,
    how: How = "single",
    adapter: bool = False,
    merge_lora: Literal["factors", "product"] = "factors",
    overwrite: bool = False,
    device: str = "cpu",
    calibrated: bool = True,
    int8: bool = False,
    mean: bool = False,
    revision: str | None = None,
) -> list[Path]:
    """Write an artifact as ordinary transformers models, PEFT adapters, a model of sentence-transformers, or ONNX.

    Args:
        folder: the artifact, as `deni.load` takes it.
        out: the folder to write; with `members` it gets a folder for each member.
        how: `single`: the mean of the members; `members`: each of them; `sentence-transformers`: the mean as a folder
            that `SentenceTransformer` of that package loads, whose `encode` returns the logits; `onnx`: the vote of the
            members as one ONNX graph.
        adapter: as PEFT adapter(s) in place of whole models.
        merge_lora: how LoRA is averaged for one model, see `deni.schedule.Fork`.
        device: where to compute the mean, see `deni.models.devices.find_device`.
        calibrated: whether the output layer is divided by the temperature, where the artifact has one of that model.
        int8: with `onnx`: the weights that the members share in int8.
        mean: with `onnx`: the mean of the members as one model, in place of their vote.
        revision: of a model of the hub, see `deni.load`.

    Returns:
        the folders of the models.

    Raises:
        SavedElsewhereError: the folder cannot be written, and the models are in the temporary directory.
        InputError: the target exists, holds the artifact or what deni did not write; adapters of a fully tuned model; a
            model with UniPELT, with a pooling that its class does not have, or with pairs that it encodes separately;
            one that the modules of sentence-transformers, or ONNX, cannot compute.
    """
    if how not in HOW:
        raise InputError(f"unknown export {how!r}: choose {', '.join(HOW)}")
    modular = how == "sentence-transformers"
    if modular and adapter:
        raise InputError("a folder of sentence-transformers has no adapter: omit --adapter")
    graph = how == "onnx"
    if graph and adapter:
        raise InputError("an ONNX graph has its adapters in it: omit --adapter")
    if (int8 or mean) and not graph:
        raise InputError(f"{'--int8' if int8 else '--mean'} is for --as onnx, not {how}: omit it")
    check_folder(out, overwrite, [folder])
    classifier = load(folder, "cpu" if graph else device, revision=revision)
    population = classifier.population
    if generates(population.model) and (graph or modular):
        raise InputError(f"{folder} generates texts, which is not written as {how}: export it as single or members")
    if graph:
        check_packages("--as onnx", *PACKAGES)
    if hasattr(population.model, "adapters_config"):
        raise InputError(
            f"{folder} has gates that depend on the text, which no ordinary model, no PEFT adapter and no graph has: "
            "use it with deni.load or deni predict"
        )
    of_members = mean_of_products if merge_lora == "product" else mean_of_members
    if graph:
        return [
            _export_graph(
                classifier,
                classifier.source or Path(folder),
                out,
                of_members if mean else None,
                int8,
                calibrated,
                overwrite,
            )
        ]
    if adapter and not hasattr(population.model, "peft_config"):
        raise InputError(f"{folder} is fully fine-tuned and has no adapter: omit --adapter")
    if not adapter and hasattr(population.model, "peft_config") and not hasattr(population.model, "merge_and_unload"):
        pooled = pooling_of(population.model) is not None
        instead = (
            "use deni.load or deni predict" if pooled else "use --as single --adapter" if modular else "add --adapter"
        )
        raise InputError(f"{folder} has a prompt, which cannot be merged into the model: {instead}")
    if not modular:
        _check_pooling(population.model, folder, classifier.tokenizer, adapter)
    if how == "members":
        models = {f"member-{member}": population.member(member) for member in range(population.size)}
    else:
        models = {"": population.full(of_members(population.values))}
    temperature = temperature_to_fold(classifier.info, population.size, how != "members") if calibrated else None
    size = _size(population.model, adapter)
    check_room(out, size * len(models), size)
    if modular:
        (values,) = models.values()
        merged = _merged(population.copy_of(values))
        fold_temperature(merged, temperature)
        if why := why_no_modules(merged, classifier.tokenizer):
            raise InputError(f"{folder} cannot be exported as sentence-transformers: {why}")

    measured: dict[str, Any] = {}
    if population.size == 1 or (how != "members" and merge_lora == "factors"):
        measured = of_export(classifier.info, merged=population.size > 1)
    kind: Kind = "adapter" if adapter else "model"

    def write(target: Path) -> None:
        if modular:
            write_modules(merged, classifier.tokenizer, target, classifier.max_length)
            _write_card(target, Path(out).name, "modules", classifier, measured)
        else:
            for name, values in models.items():
                model = population.copy_of(values)
                fold_temperature(model, temperature)
                _export_one(model, target / name, adapter, classifier)
                classifier.tokenizer.save_pretrained(target / name)
                if not generates(model):
                    _write_card(target / name, name or Path(out).name, kind, classifier, measured)
        write_list(target)

    write_folder(out, write, overwrite, [folder], kept="the exported model is", checked=True)
    return [Path(out) / name for name in models]


def _write_card(target: Path, name: str, kind: Kind, classifier: Classifier, measured: dict[str, Any]) -> None:
    """The model card, with what was measured of this model."""
    base = base_of(target, "artifact", classifier.info)
    model = Publishable(kind, {}, [], {}, base)
    outputs = len(classifier.labels)
    text = hub_card(name, model, labels=classifier.labels, task=classifier.task, outputs=outputs, measured=measured)
    (target / CARD).write_text(text, encoding="utf-8", errors="backslashreplace")


def _export_graph(
    classifier: Classifier,
    folder: Path,
    out: str | Path,
    mean: Merge | None,
    int8: bool,
    calibrated: bool,
    overwrite: bool,
) -> Path:
    with work_folder() as work:
        made = GraphExport(classifier, folder, mean, int8, calibrated, work)
        size = made.size()
        check_room(out, size, size)
        return write_folder(out, made.write, overwrite, [folder], kept="the exported model is", checked=True)


def _size(model: nn.Module, adapter: bool) -> int:
    """Bytes of a model, or of its adapter, as it is exported: about."""
    own = {value.data_ptr(): value for value in model.parameters() if value.requires_grad or not adapter}
    return sum(value.numel() * value.element_size() for value in own.values())


def _check_pooling(model: nn.Module, folder: str | Path, tokenizer: Any, adapter: bool) -> None:
    """Raise InputError where an ordinary model, or an adapter of one, would pool in another way than the artifact."""
    if encodes_separately(model):
        what = "the base model of a PEFT adapter" if adapter else "an ordinary model"
        raise InputError(
            f"{folder} encodes the two texts of a pair separately, which {what} does not do: use it with deni.load or "
            "deni predict"
        )
    pooling, config = pooling_of(model), config_of(model)
    if pooling is None or config is None:
        return
    said = says(pooling, config, tokenizer.padding_side)
    if said is None or (adapter and said):
        way = f"{pooling.kind} pooling" + (", normalized" if pooling.normalize else "")
        what = "the base model of a PEFT adapter" if adapter else f"an ordinary model of {config.model_type}"
        instead = "use it with deni.load or deni predict"
        if not pooling.virtual_tokens:
            instead = f"export it with --as sentence-transformers, or {instead}"
        raise InputError(f"{folder} has {way}, which {what} does not do: {instead}")


def _export_one(model: nn.Module, target: Path, adapter: bool, classifier: Classifier) -> None:
    config: Any = config_of(model)
    if (pooling := pooling_of(model)) is not None:
        for name, value in (says(pooling, config, classifier.tokenizer.padding_side) or {}).items():
            setattr(config, name, value)
        detach(model)
    if adapter:
        from deni.models.loading import MINILM

        base = classifier.info.get("recipe", {}).get("model")
        for config in with_peft(model).peft_config.values():
            # PEFT writes the artifact's folder, which is not the base model; a Hub id works on other machines, too.
            config.base_model_name_or_path = MINILM if base == "minilm" else base or config.base_model_name_or_path
            config.inference_mode = True
        rest = {} if generates(model) else _rest(model)
        hugging_face(model).save_pretrained(target)
        if not generates(model):  # PEFT's configuration does not say what the labels are
            architecture = type(with_peft(model).get_base_model()).__name__
            write_config(model, dict(enumerate(classifier.labels)), target, architecture)
        file = target / "adapter_model.safetensors"
        save_file({**load_file(file), **rest}, file, metadata={"format": "pt"})
    else:
        hugging_face(_merged(model)).save_pretrained(target)


def _merged(model: nn.Module) -> nn.Module:
    """The model with its adapter in its weights; it is changed."""
    return with_peft(model).merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _rest(model: nn.Module) -> dict[str, Tensor]:
    """The frozen weights outside of embeddings and encoder layers, as PEFT's file of an adapter has them.

    The base model may lack them (a pooler), and who loads the adapter would get other, random ones. PEFT's
    configuration names their layers afterwards.
    """
    from peft import get_peft_model_state_dict

    adapted = with_peft(model)
    config: Any = adapted.peft_config[adapted.active_adapter]
    saved = get_peft_model_state_dict(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    paths = []
    for path, module in outside_layers(adapted.get_base_model()):
        own = {names[id(value)]: value.detach() for value in module.parameters(recurse=False)}
        if own.keys() <= saved.keys() or _IN_PEFT.search(path):
            continue
        found |= own
        paths.append(path)
    config.modules_to_save = [*dict.fromkeys([*(config.modules_to_save or ()), *paths])]
    return found
