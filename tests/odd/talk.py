"""Says more than anybody wants to know."""

NAME = "talk"


def execute(img_obj):
    return {"text": '"n\'est-ce pas?" ' * 25_000, "bytes": len(img_obj.read())}
