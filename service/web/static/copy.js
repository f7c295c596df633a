// What can be copied: the whole of it, though the page may show less.
const wholes = new WeakMap();
const SECONDS = 2;

/** Show a text that is copied as this, or as another; nothing can be copied if it is null. */
export function offer(element, whole, shown = whole) {
  wholes.set(element, whole);
  element.textContent = shown;
  for (const button of document.querySelectorAll(`[data-copy="${element.id}"]`)) button.disabled = whole === null;
}

export function startCopying() {
  for (const button of document.querySelectorAll(".copy")) {
    const name = button.textContent;
    const element = document.getElementById(button.dataset.copy);
    button.addEventListener("click", async () => {
      const whole = wholes.get(element);
      try {
        await navigator.clipboard.writeText(whole);
        button.textContent = "Copied";
      } catch {
        // refused, or not there: browsers give the clipboard to pages from https and from localhost only
        element.textContent = whole;
        getSelection().selectAllChildren(element);
        button.textContent = "Selected: copy it";
      }
      setTimeout(() => (button.textContent = name), 1000 * SECONDS);
    });
  }
}
