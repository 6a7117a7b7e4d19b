"""Every case by its name, in the order of the principles."""

from tests.flood import answers, bursts, fairness, parts, process, reading
from tests.flood.stage import Case

CASES = {
    found.name: found
    for module in (reading, answers, bursts, fairness, parts, process)
    for found in vars(module).values()
    if isinstance(found, Case)
}
