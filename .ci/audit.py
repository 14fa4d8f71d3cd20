"""Tells what pip-audit found: `pip-audit --format json --output FILE` writes, `python .ci/audit.py FILE` reads.

Ends with 1 if a dependency has a known vulnerability. A database that cannot be reached is said and does not fail: no
change of this project would mend it.
"""

import json
import sys
from pathlib import Path


def main(report: Path) -> int:
    if not report.is_file():
        print("not audited: the database of vulnerabilities could not be reached")
        return 0
    found = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    skipped = [each["name"] for each in found if "skip_reason" in each]
    hurt = [each for each in found if each.get("vulns")]
    for each in hurt:
        for vulnerability in each["vulns"]:
            mended = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {vulnerability['id']}, mended in {mended}")
    print(f"audited {len(found) - len(skipped)} of {len(found)} packages: {len(hurt)} with known vulnerabilities")
    if skipped:
        print(f"the database does not know {len(skipped)}: {', '.join(skipped[:5])}{', …' * (len(skipped) > 5)}")
    return 1 if hurt else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
