from typing import Any


def write(content: dict[str, Any]) -> None: ...
