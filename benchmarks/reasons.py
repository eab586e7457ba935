"""Why a target is not reached, by target: kept apart, since it changes as the code does."""

WHY: dict[tuple[str, str], str] = {}
