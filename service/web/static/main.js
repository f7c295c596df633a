// The page: starts each part, and what they share.
import { startDigits } from "./digits.js";
import { startFrames } from "./frames.js";
import { startStatus } from "./status.js";

for (const button of document.querySelectorAll(".copy")) {
  const name = button.textContent;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => (button.textContent = name), 2000);
  });
}

startDigits();
startFrames();
startStatus();
