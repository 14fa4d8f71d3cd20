// How densely points lie in the plane, and lines of equal density. No page is needed.

const CELLS = 72; // of the grid, each way
const SHARES = [0.9, 0.6, 0.3]; // of the points, that the lines hold
const REACH = 3; // of the grid beyond the outermost points, in bandwidths

/** @typedef {{ values: Float64Array, size: number, x: number[], y: number[] }} Grid values: [row * size + col]; x, y: [start, step] */

/** Lines of equal density as pieces, [[x0, y0, x1, y1], ...], that hold these shares of the points. @type {(xs: number[], ys: number[], shares?: number[], cells?: number) => number[][]} */
export function densityContours(xs, ys, shares = SHARES, cells = CELLS) {
  if (xs.length < 3) return [];
  const grid = densityGrid(xs, ys, bandwidthOf(xs, ys), cells);
  const among = xs.map((x, i) => densityAt(grid, x, ys[i])).sort((a, b) => b - a);
  return shares.flatMap((share) => isoLines(grid, among[Math.min(among.length, Math.ceil(share * among.length)) - 1]));
}

/** Half of what Scott (1992) recommends for one bump: maps have several. The same for both axes, which have one scale. */
export function bandwidthOf(xs, ys) {
  const variance = (values) => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  };
  return (0.5 * Math.sqrt((variance(xs) + variance(ys)) / 2)) / xs.length ** (1 / 6) || 1;
}

/** Gaussians at the points, averaged at the crossings of a grid. @type {(xs: number[], ys: number[], bandwidth: number, cells?: number) => Grid} */
export function densityGrid(xs, ys, bandwidth, cells = CELLS) {
  const size = cells + 1;
  const [x, y] = [xs, ys].map((values) => {
    const start = values.reduce((low, value) => Math.min(low, value), Infinity) - REACH * bandwidth;
    const end = values.reduce((high, value) => Math.max(high, value), -Infinity) + REACH * bandwidth;
    return [start, (end - start) / cells];
  });
  const values = new Float64Array(size * size);
  /** @type {(value: number, axis: number[]) => Float64Array} */
  const bumps = (value, [start, step]) => Float64Array.from({ length: size }, (_, i) => Math.exp(-0.5 * ((start + i * step - value) / bandwidth) ** 2));
  for (let i = 0; i < xs.length; i++) {
    const [across, up] = [bumps(xs[i], x), bumps(ys[i], y)];
    for (let row = 0; row < size; row++) {
      if (up[row] < 1e-12) continue;
      for (let col = 0; col < size; col++) values[row * size + col] += up[row] * across[col];
    }
  }
  return { values: values.map((value) => value / (2 * Math.PI * bandwidth ** 2 * xs.length)), size, x, y };
}

/** Between the crossings the density is bilinear. @type {(grid: Grid, px: number, py: number) => number} */
export function densityAt({ values, size, x, y }, px, py) {
  const [across, up] = [(px - x[0]) / x[1], (py - y[0]) / y[1]];
  const [col, row] = [across, up].map((place) => Math.min(size - 2, Math.max(0, Math.floor(place))));
  const [right, above] = [across - col, up - row];
  const at = (r, c) => values[r * size + c];
  return (1 - above) * ((1 - right) * at(row, col) + right * at(row, col + 1)) + above * ((1 - right) * at(row + 1, col) + right * at(row + 1, col + 1));
}

/** Marching squares (Lorensen and Cline 1987, in the plane). Where two pieces cross a cell, its middle says which corners belong together. @type {(grid: Grid, level: number) => number[][]} */
export function isoLines({ values, size, x, y }, level) {
  const pieces = [];
  for (let row = 0; row + 1 < size; row++) {
    for (let col = 0; col + 1 < size; col++) {
      const corners = [[row, col], [row, col + 1], [row + 1, col + 1], [row + 1, col]]; // around the cell
      const heights = corners.map(([r, c]) => values[r * size + c] - level);
      const crossings = corners.flatMap((from, i) => crossing(from, corners[(i + 1) % 4], heights[i], heights[(i + 1) % 4]));
      if (!crossings.length) continue;
      const ends = crossings.map(([r, c]) => [x[0] + c * x[1], y[0] + r * y[1]]);
      const middle = heights.reduce((sum, height) => sum + height, 0) >= 0;
      const joined = ends.length === 2 || middle === heights[0] >= 0 ? ends : [...ends.slice(1), ends[0]];
      for (let i = 0; i < joined.length; i += 2) pieces.push([...joined[i], ...joined[i + 1]]);
    }
  }
  return pieces;
}

/** @type {(from: number[], to: number[], height: number, next: number) => number[][]} */
function crossing([row, col], [nextRow, nextCol], height, next) {
  if (height >= 0 === next >= 0) return [];
  const share = height / (height - next);
  return [[row + share * (nextRow - row), col + share * (nextCol - col)]];
}
