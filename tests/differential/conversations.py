"""A hundred conversations: plain, long, with tools and their answers, with reasoning, in many scripts, odd ones."""
import random

WORDS = (
    "Hello world! naïve façade — “quotes” 'single' \"double\" <b>&amp;</b> \\n \\ / {{ not a tag }} {% raw %} 日本語 العربية עברית हिन्दी 한국어 "
    "emoji 👩‍👩‍👧‍👦🇫🇷 tab\there new\nline\n\ntwo \r\n crlf \u2028sep \u00a0nbsp 3.14 -7 1e9 null None True </think> <think> <|im_end|> [INST] ```py\nprint(1)\n```"
).split(" ")

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Get the weather.\nOf a place.", "parameters": {
        "type": "object", "properties": {"location": {"type": "string", "description": "City"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["location"]}, "return": {"type": "number"}}},
    {"type": "function", "function": {"name": "search", "description": "Suche im Web – überall", "parameters": {
        "type": "object", "properties": {"query": {"type": "string"}, "filter": {"type": "object", "properties": {"lang": {"type": "string"}}}}}}},
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {}}},
]


def text(random_, most=30):
    return " ".join(random_.choice(WORDS) for _ in range(random_.randint(1, most)))


def tool_turns(random_):
    calls = []
    for _ in range(random_.choice([1, 1, 1, 2, 4])):
        arguments = random_.choice([{"location": "Zürich", "unit": "celsius"}, {"query": text(random_, 4), "n": 3, "deep": {"x": [1, 2.5, None, True]}}, {}])
        calls.append({"id": f"{random_.randrange(10**9):09d}", "type": "function", "function": {"name": random_.choice(["get_weather", "search"]), "arguments": arguments}})
    turns = [{"role": "assistant", "content": random_.choice([None, "", "Let me look."]), "tool_calls": calls}]
    for call in calls:
        content = random_.choice(['{"temperature": 22.5}', text(random_, 5), "42"])
        turns.append({"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": content})
    return turns + [{"role": "assistant", "content": text(random_)}]


def conversation(number):
    """The variables of one rendering."""
    random_ = random.Random(number)
    messages = []
    if random_.random() < 0.5:
        messages.append({"role": "system", "content": text(random_)})
    for _ in range(random_.randint(1, 6)):
        messages.append({"role": "user", "content": text(random_)})
        kind = random_.random()
        if kind < 0.25 and number % 3 == 0:
            messages += tool_turns(random_)
        elif kind < 0.4:
            messages.append({"role": "assistant", "content": f"<think>\n{text(random_)}\n</think>\n\n{text(random_)}"})
        elif kind < 0.5:
            messages.append({"role": "assistant", "content": text(random_), "reasoning_content": text(random_)})
        else:
            messages.append({"role": "assistant", "content": text(random_)})
    if random_.random() < 0.6:
        messages.append({"role": "user", "content": "  " + text(random_) + "\n"})
    if number % 10 == 7:  # content in parts
        messages[-1]["content"] = [{"type": "text", "text": text(random_)}, {"type": "image"}, {"type": "text", "text": "and?"}]
    if number % 20 == 9:  # roles that do not alternate
        messages.insert(1, {"role": random_.choice(["user", "assistant", "developer"]), "content": text(random_)})
    variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": random_.random() < 0.5}
    if number % 3 == 0:
        variables["tools"] = random_.sample(TOOLS, random_.randint(1, 3))
    if number % 25 != 24:
        variables |= {"bos_token": "<s>", "eos_token": "</s>"}
    if number % 4 == 1:
        variables["enable_thinking"] = random_.random() < 0.5
    if number % 6 == 0:
        variables |= {"tools_in_user_message": False, "date_string": "1 Jan 2025"}
    return variables


def conversations():
    return [conversation(n) for n in range(99)] + [{"messages": [], "add_generation_prompt": True, "tools": None, "bos_token": "<s>", "eos_token": "</s>"}]
