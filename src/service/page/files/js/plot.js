// Draws the map on a canvas. `state`: {map, colors, marks}; `view`: {x, y, zoom}, where x and y are in pixels at zoom 1.

const HUES = [212, 28, 130, 340, 265, 175, 50, 300, 95, 0];
export const OTHER = "hsl(0 0% 55%)";

/** A color for each of the most frequent values; the others share one. */
export function palette(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const frequent = [...counts].sort((one, other) => other[1] - one[1]).slice(0, HUES.length).map(([value]) => value);
  return new Map(frequent.map((value, at) => [value, `hsl(${HUES[at]} 65% 50%)`]));
}

const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

/** From places on the plane to pixels of the canvas. */
export function scale(canvas, { map }, view) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const [x0, x1] = range(map.x ?? [0, 1]);
  const [y0, y1] = range(map.y ?? [0, 1]);
  const size = Math.min((width - 20) / (x1 - x0 || 1), (height - 20) / (y1 - y0 || 1)) * view.zoom;
  return {
    x: (value) => width / 2 + (value - (x0 + x1) / 2) * size + view.x * view.zoom,
    y: (value) => height / 2 - (value - (y0 + y1) / 2) * size + view.y * view.zoom,
  };
}

export function draw(canvas, state, view) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const { x, y } = scale(canvas, state, view);
  const { map, colors } = state;
  pen.globalAlpha = 0.7;
  (map.x ?? []).forEach((_, at) => {
    pen.fillStyle = map.colors ? colors.get(map.colors[at]) ?? OTHER : `hsl(${HUES[0]} 65% 50%)`;
    pen.fillRect(x(map.x[at]) - 1.5, y(map.y[at]) - 1.5, 3, 3);
  });
  pen.globalAlpha = 1;
  for (const mark of state.marks) ring(pen, mark, x(mark.x), y(mark.y), getComputedStyle(canvas).color);
}

function ring(pen, mark, x, y, color) {
  const isCandidate = mark.kind === "candidate";
  pen.strokeStyle = color;
  pen.fillStyle = color;
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, isCandidate ? 5 : 8, 0, 2 * Math.PI);
  pen.stroke();
  if (!isCandidate) pen.fillText(mark.kind, x + 11, y + 4);
}
