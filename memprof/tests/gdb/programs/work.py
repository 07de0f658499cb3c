import sys, re, collections, functools
sys.stdin.readline()

class Item:
    def __init__(self, number):
        self.number = number
    def __lt__(self, other):
        return self.number * 7 % 13 < other.number * 7 % 13
    @functools.cached_property
    def thrice(self):
        return [self.number] * 3

def nested(depth):
    return [depth] if depth == 0 else nested(depth - 1) + [depth]

def generated():
    try:
        yield from (str(number) * 3 for number in range(12))
        int("no number")
    except ValueError as error:
        yield repr(error)

items = sorted(Item(number) for number in range(12))
kept = [item.thrice for item in items], list(generated()), nested(12)
kept += (re.findall(r"(\w+)-(\d+)", "ab-12 cd-34 ef-56"), collections.Counter("abracadabra").most_common())
exec("def made(x, *rest, **named):\n    return f'{x!r:>5}' + ''.join(map(str, rest))\nkept += (made(1, 2, 3, a=4),)")
# A library that is mapped now.
import _json, colorsys
text = "".join(_json.encode_basestring_ascii(f"a \"string\" {number}") for number in range(8))
kept += (text, _json.scanstring(text, 1), colorsys.rgb_to_hsv(1, 2, 3),)
