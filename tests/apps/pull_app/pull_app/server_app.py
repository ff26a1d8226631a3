"""Asks every node twice for a number and sums in the order of arrival."""

import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Collect."""
    groups = []
    for number in range(int(context.run_config["rounds"])):
        while len(nodes := list(grid.get_node_ids())) < 2:
            time.sleep(0.1)
        ask = [Message(RecordDict({"ask": ConfigRecord({"number": number})}), node, "query") for node in nodes]
        # A second message to the first node, as an app of this kind may send.
        ask.append(Message(RecordDict({"ask": ConfigRecord({"number": 100 + number})}), nodes[0], "query"))
        waiting = set(grid.push_messages(ask))
        while waiting:
            replies = list(grid.pull_messages(waiting))
            waiting -= {reply.metadata.reply_to_message_id for reply in replies}
            if replies:
                groups.append(
                    ["error" if reply.has_error() else reply.content["answer"]["number"] for reply in replies]
                )
            time.sleep(0.05)
    Path("groups.json").write_text(json.dumps(groups))
