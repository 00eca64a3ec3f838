"""Studies over the toy tickets and the tiny model."""

import yaml

from deni.study.plan import read_study

RECIPE = {"epochs": 2, "max_length": 12, "learning_rate": 0.003}


def writer(file, tickets, model_folder):
    """Writes a study over the toy tickets and the tiny model."""

    def write(**given):
        values = {
            "datasets": [{"path": tickets}],
            "models": [model_folder],
            "strategies": ["default"],
            "labelled": 18,
            "seeds": 3,
            "recipe": RECIPE,
            **given,
        }
        file.write_text(yaml.safe_dump(values))
        return str(file)

    return write


def jobs_of(file):
    return read_study(file).jobs
