"""What `kubectl kustomize` does with a rendered folder, as far as ours use it: resources and JSON patches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import yaml

Document = dict[str, Any]


def built(files: Mapping[str, str], folder: str) -> list[Document]:
    """Every object that applying this folder makes."""
    kustomization = _loaded(files[f"{folder}/kustomization.yaml"])
    assert kustomization["kind"] == "Kustomization"
    assert set(kustomization) <= {"apiVersion", "kind", "resources", "patches"}
    found: list[Document] = []
    for resource in kustomization["resources"]:
        path = str(_joined(folder, resource))
        if f"{path}/kustomization.yaml" in files:
            found += built(files, path)
        else:
            found += [document for document in yaml.load_all(files[path], yaml.CSafeLoader) if document]
    for patch in kustomization.get("patches", []):
        (target,) = [one for one in found if _is(one, patch["target"])]
        for change in _loaded(files[f"{folder}/{patch['path']}"]):
            _change(target, change)
    return found


def _loaded(text: str) -> Any:
    return yaml.load(text, yaml.CSafeLoader)  # as safe as the one in Python, and ten times as fast


def only(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = [one for one in documents if _is(one, {"kind": kind, "name": name})]
    return found


def _is(document: Document, target: Document) -> bool:
    return document["kind"] == target["kind"] and document["metadata"]["name"] == target["name"]


def _joined(folder: str, resource: str) -> PurePosixPath:
    parts: list[str] = []
    for part in PurePosixPath(folder, resource).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def _change(document: Any, change: Document) -> None:
    """RFC 6902, without what ours do not use."""
    *steps, last = change["path"].removeprefix("/").split("/")
    at = document
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if isinstance(at, list):
        if change["op"] == "add":
            at.insert(len(at) if last == "-" else int(last), change["value"])
            return
        last = int(last)
    assert change["op"] == "replace"
    at[last]  # what is replaced must be there
    at[last] = change["value"]
