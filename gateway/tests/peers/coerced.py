"""Checks data sets in which attributes were changed on the way, as pydicom reads them.

The arguments name attributes and the values that they must have: KEYWORD=VALUE; KEYWORD- must not be there; KEYWORD^PREFIX
must have its value of before with this prefix, if it had one. Pairs of Part 10 files, before and after, come as lines with
a tab on standard input. The last item of Original Attributes Sequence must say what was changed: undone by it, the data set
after must be equal to the one before, element by element. Says what differs, never the values; ends with 1 if anything does.
"""

import sys

from compare import differences
from pydicom import dcmread

ITEM = {"ReasonForTheAttributeModification": "COERCE", "SourceOfPreviousValues": None}


def wrong_values(before, after, wanted):
    """What the data set after does not have as wanted."""
    for word in wanted:
        if "=" in word:
            keyword, value = word.split("=", 1)
            right = keyword in after and str(after[keyword].value) == value
        elif "^" in word:
            keyword, prefix = word.split("^", 1)
            old = str(before[keyword].value or "") if keyword in before else ""
            new = str(after[keyword].value or "") if keyword in after else ""
            right = new == (prefix + old if old and not old.startswith(prefix) else old)
        else:
            keyword = word.removesuffix("-")
            right = keyword not in after
        if not right:
            yield f"{keyword} is not as wanted"


def undo(before, after):
    """Puts back what the last item of Original Attributes Sequence says; what is wrong with that item."""
    if "OriginalAttributesSequence" not in after:
        yield "there is no Original Attributes Sequence"
        return
    items = after.OriginalAttributesSequence
    item = items[-1]
    for keyword, value in ITEM.items():
        if keyword not in item or (item[keyword].value or None) != value:
            yield f"{keyword} of the item is wrong"
    if not str(item.ModifyingSystem).startswith("Waystation ") or len(str(item.AttributeModificationDateTime)) != 26:
        yield "the item does not say who or when"
    if len(item.ModifiedAttributesSequence) != 1:
        yield "Modified Attributes Sequence must have one item"
    for element in item.ModifiedAttributesSequence[0]:
        if element.is_empty and element.tag not in before:
            del after[element.tag]
        else:
            after[element.tag] = element
    if "OriginalAttributesSequence" in before:
        items.pop()
    else:
        del after.OriginalAttributesSequence


def main():
    failed = False
    for line in sys.stdin:
        one, other = line.rstrip("\n").split("\t")
        before, after = dcmread(one, force=True), dcmread(other, force=True)
        wrong = list(wrong_values(before, after, sys.argv[1:]))
        wrong += undo(before, after)
        wrong += differences(before, after)
        for sentence in wrong:
            print(f"{one} and {other}: {sentence}")
            failed = True
    sys.exit(failed)


main()
