"""The named datasets: their location, columns and class names."""

from __future__ import annotations

from dataclasses import dataclass

PAPER_LABELED = 1000  # texts to train on in the paper's protocol (arXiv 2406.12471)

_GLUE = "nyu-mll/glue"


@dataclass(frozen=True)
class NamedDataset:
    """A public dataset.

    Args:
        hub: its id on the hub.
        text: the column of the texts.
        label: the column of the labels.
        classes: their names, in the order of the hub's numbers.
        pair: the column of the second texts; None for one text a row.
        config: its configuration on the hub.
        splits: those that have labels.
        max_length: tokens of a text in the paper's protocol (arXiv 2406.12471).
        revision: of the hub; None for the newest.
    """

    hub: str
    text: str
    label: str
    classes: tuple[str, ...]
    pair: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train", "test")
    max_length: int = 50
    revision: str | None = None

    @property
    def split(self) -> str:
        """All its splits, as `datasets.load_dataset` takes them.

        >>> DATASETS["cola"].split
        'train+validation'
        """
        return "+".join(self.splits)


_ONTOLOGY = (
    *("Company", "EducationalInstitution", "Artist", "Athlete", "OfficeHolder", "MeanOfTransportation", "Building"),
    *("NaturalPlace", "Village", "Animal", "Plant", "Album", "Film", "WrittenWork"),
)
_INTENTS = (
    *("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook"),
    *("SearchCreativeWork", "SearchScreeningEvent"),
)
_QUESTIONS = ("abbreviation", "entity", "description", "human", "location", "numeric")
_DEV = ("train", "validation")  # the labels of the test split are not public

DATASETS: dict[str, NamedDataset] = {
    "ag_news": NamedDataset("fancyzhx/ag_news", "text", "label", ("World", "Sports", "Business", "Sci/Tech")),
    # Its newest revision is a script, which `datasets` does not run; the hub keeps a conversion of it.
    "trec": NamedDataset(
        "CogComp/trec", "text", "coarse_label", _QUESTIONS, max_length=25, revision="refs/convert/parquet"
    ),
    "snips": NamedDataset("benayas/snips", "text", "category", _INTENTS, max_length=25),
    "db_pedia": NamedDataset("fancyzhx/dbpedia_14", "content", "label", _ONTOLOGY),
    "sst2": NamedDataset(_GLUE, "sentence", "label", ("negative", "positive"), config="sst2", splits=_DEV),
    "mrpc": NamedDataset(
        *(_GLUE, "sentence1", "label", ("not_equivalent", "equivalent"), "sentence2", "mrpc"),
        splits=("train", "validation", "test"),
    ),
    "cola": NamedDataset(
        *(_GLUE, "sentence", "label", ("unacceptable", "acceptable")), config="cola", splits=_DEV, max_length=25
    ),
    "boolq": NamedDataset("google/boolq", "question", "answer", ("False", "True"), "passage", splits=_DEV),
    "rte": NamedDataset(
        *(_GLUE, "sentence1", "label", ("entailment", "not_entailment"), "sentence2", "rte"), splits=_DEV
    ),
}
