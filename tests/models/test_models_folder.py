"""A model folder's config.json is checked before any weights are read."""

import json
import shutil

import pytest

from mambamia_cli.errors import ModelError
from mambamia_cli.models.folder import read_folder


@pytest.fixture
def folder(tiny_model, tmp_path):
    """folder(key=value) -> the name of a model folder with this in its config."""

    def make(**values):
        copy = tmp_path / "model"
        shutil.copytree(tiny_model, copy)
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps({**config, **values}))
        return str(copy)

    return make


def test_objects_are_the_words_that_drawings_taught(folder):
    assert read_folder(folder(objects=["cat", "dog"])).objects == ("cat", "dog")


@pytest.mark.parametrize("values", [{"objects": "cat"}, {"objects": ["cat", 3]}, {"token_budget": 0}, {"overlap": 0}, {"overlap": 2.5}, {"evidence": []}, {"name": ""}, {"format": "other/1"}])
def test_values_that_cannot_be_are_refused(folder, values):
    with pytest.raises(ModelError):
        read_folder(folder(**values))
