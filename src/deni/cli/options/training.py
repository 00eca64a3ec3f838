"""Options that say what is trained, how, and on how many texts, of the commands that train."""

from __future__ import annotations

import click

from deni.cli.options.choice import Choice
from deni.cli.options.numbers import COUNT, Number, Whole
from deni.models.pairs import PAIRS as PAIRS_READ
from deni.models.pooling import KINDS
from deni.strategies import PRESETS
from deni.tuning import TUNINGS

TUNING = click.option(
    "--tuning",
    type=Choice(list(TUNINGS)),
    default="full",
    show_default=True,
    help="Which parameters train; see deni tunings.",
)
OPEN_TUNING = click.option(
    "--tuning",
    type=Choice(list(TUNINGS)),
    help="Which parameters train; see deni tunings.  [default: full, unless auto chooses]",
)
MODEL = click.option(
    "--model",
    help="Pre-trained model: minilm, a folder, or a hub id; auto:A,B,C: the best of several, as deni models finds it.  "
    "[default: minilm]",
)
PRESET = click.option("--preset", type=Choice(PRESETS), help="Preset for settings not given on the command line.")
PROTOCOL = click.option(
    "--protocol", type=Choice(["paper"]), help="Protocol of the paper: its preset, and 1,000 labeled texts."
)
LABELLED = click.option(
    "--labeled",
    "labelled",
    type=COUNT,
    help="Labeled texts to train on, class-balanced.  [default: all]",
)
TEST_SIZE = click.option("--test-size", type=COUNT, help="Texts of the test split to measure on.  [default: all]")
EPOCHS = click.option(
    "--epochs", type=Number(), help="Passes over the training texts.  [default: 10, unless auto chooses]"
)
LEARNING_RATE = click.option(
    "--learning-rate", type=Number(), help="Peak learning rate.  [default: the tuning's own, unless auto chooses]"
)
BATCH_SIZE = click.option("--batch-size", type=Whole(), help="Texts of one optimizer step.  [default: 8]")
MAX_LENGTH = click.option(
    "--max-length", type=Whole(), help="Tokens after which a text is cut.  [default: the 99th percentile of the texts]"
)
DROPOUT = click.option("--dropout", type=Number(), help="Dropout in front of the output layer.  [default: 0.3]")
HEAD_LR_SCALE = click.option(
    "--head-lr-scale",
    type=Number(),
    help="Learning rate of the output layer as a multiple of that of all other parameters.  "
    "[default: 1, unless auto chooses]",
)
POOLING = click.option(
    "--pooling",
    type=Choice(["auto", *KINDS]),
    help="How the states of a text's tokens become what the head reads; auto: as the model's class does.  "
    "[default: auto, unless the strategy auto chooses]",
)
NORMALIZE_FEATURES = click.option(
    "--normalize-features", is_flag=True, default=None, help="Scale what is pooled to length 1."
)
PAIRS = click.option(
    "--pairs",
    type=Choice(PAIRS_READ),
    help="How the two texts of a pair are read; cross: as one input; bi: one by one, by the same encoder.  "
    "[default: cross, unless auto chooses]",
)
BF16 = click.option(
    "--bf16/--no-bf16",
    default=None,
    help="Compute in bfloat16, or not; default: where auto trains on a CPU that multiplies it.",
)
BLOCK = click.option(
    "--block",
    type=Whole(),
    default=0,
    show_default=True,
    help="Seed of the choice of the test split and of the labeled texts.",
)
