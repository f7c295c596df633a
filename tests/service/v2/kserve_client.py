"""What KServe's client gets from the server whose URL is given, as JSON. Runs in an environment of its own:
its requirements do not go together with the project's.
"""

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

PIXELS = np.array([[0.5, 0.5, 1.0], [0.0, 0.25, 0.0]], np.float32)


async def main(url: str) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        found: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model ready": await client.is_model_ready(url, "digits"),
            "letters ready": await client.is_model_ready(url, "letters"),
        }
        for binary in (True, False):
            tensor = InferInput("pixels", list(PIXELS.shape), "FP32")
            tensor.set_data_from_numpy(PIXELS, binary_data=binary)
            request = InferRequest(
                "digits", [tensor], request_id="7", parameters={"binary_data_output": binary}
            )
            answer = await client.infer(url, request, model_name="digits")
            outputs = {output.name: output.as_numpy().tolist() for output in answer.outputs}
            found["binary" if binary else "json"] = {"id": answer.id, "outputs": outputs}
        try:
            await client.infer(url, {"inputs": []}, model_name="digits")
        except httpx.HTTPStatusError as error:
            found["error"] = [error.response.status_code, str(error)]
        return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
