"""Answers a number with itself and the device's share."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """Answer."""
    number = message.content["ask"]["number"] * 10 + int(context.node_config["partition-id"])
    return Message(RecordDict({"answer": MetricRecord({"number": number})}), reply_to=message)
