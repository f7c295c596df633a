// Colours and sizes of canvases.

/** A colour of the style sheet, in the theme that holds now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Each class's colour: digits have their own, silence is grey. */
export const classColour = (label) => (/^[0-9]$/.test(label) ? colour(`c${label}`) : colour("soft"));

/** Call when the theme changes. */
export const onTheme = (callback) => matchMedia("(prefers-color-scheme: dark)").addEventListener("change", callback);

/** A context whose unit is a CSS pixel, sharp on any screen, cleared. */
export function prepare(canvas) {
  const scale = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== columns || canvas.height !== rows) [canvas.width, canvas.height] = [columns, rows];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
