"""Check that type checkers know the type of every public symbol, as pyright's `--verifytypes` sees it.

Exempt are classes that derive from the Appwrite SDK's, and what returns or takes them: the SDK has no types, so pyright
calls its classes unknown here, although it reads their sources elsewhere. So are the transports, whose base is httpx's
or httpx2's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

OF_THE_SDK = (
    "booking_resilience.appwrite.",
    "booking_resilience.http.httpx",  # httpx2 as well: classes whose base is looked up when the module is loaded
    "booking_resilience.testing.AppwriteServer",
    "booking_resilience.testing.appwrite_server",
)


def main() -> int:
    """Print each public symbol of unknown type; return 1 if there is any."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--ignoreexternal", "--outputjson"]
    command += ["--verifytypes", "booking_resilience"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": "src"}, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    unknown = [
        symbol
        for symbol in found
        if symbol["isExported"]
        and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
        and not symbol["name"].startswith(OF_THE_SDK)
    ]
    for symbol in unknown:
        told = "; ".join(item["message"] for item in symbol["diagnostics"])
        print(f"{symbol['name']}: {told or 'holds a symbol of unknown type'}")
    print(f"{len(found)} symbols, {len(unknown)} of unknown type")
    return 1 if unknown or not found else 0


if __name__ == "__main__":
    sys.exit(main())
