"""Why a target is not reached, by target: kept apart, since it changes as the code does."""

WHY: dict[tuple[str, str], str] = {
    ("10^5 keys, to the listing of Amp", "missing"): (
        "one listing answers for all keys at once and reads no index; ampstore looks up each key, however many entries "
        "there are. A listing per key, as `in` needs with Amp, is the row of contains"
    ),
}
