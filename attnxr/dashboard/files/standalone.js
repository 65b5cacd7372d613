// The page of a saved state: the parts of the server's page, fed from the tables that lie in this one.
const read = (id) => JSON.parse(document.getElementById(id).textContent)
const saved = read("data")
const kinds = read("kinds")
const [layers, heads, positions] = saved.shape
// Of each layer and token there are so many vectors: one a head, one for several of them, or one of no head.
const [columns, columnName] = saved.columns
const unpack = (packed, kind) => new kind(Uint8Array.from(atob(packed), (c) => c.charCodeAt(0)).buffer)
const own = unpack(saved.own, Uint32Array)
const inText = new Set(own)
const ownRank = unpack(saved.own_rank, Int32Array)
const ownDistance = unpack(saved.own_distance, Float32Array)
const nearestDistance = unpack(saved.nearest_distance, Float32Array)
const nearest = unpack(saved.nearest, Uint32Array)
const neighbor = unpack(saved.neighbor, Uint32Array)
const distance = unpack(saved.distance, Float32Array)
const otherPosition = unpack(saved.other_position, Uint16Array)
const otherDistance = unpack(saved.other_distance, Float32Array)
const weights = saved.attention && unpack(saved.attention.weights, Float32Array)
const { measure } = saved
const values = unpack(measure.values, Float32Array)
const looks = unpack(measure.paint, Uint32Array)
let [layer, head, position] = saved.selection
const columnOf = (h) => Math.floor((h * columns) / heads)
const headOf = (column) => (columnOf(head) === column ? head : (column * heads) / columns)

// What a part on the server's page is given: its properties, and how it hears of changes and tells of clicks.
const show = (name, id, properties, send_msg = () => {}) => {
  const listeners = {}
  const { properties: initial, packed, style } = kinds[name]
  const given = (key, value) => (packed.includes(key) ? JSON.stringify(value) : value)
  const values = Object.entries({ ...initial, ...properties }).map(([key, value]) => [key, given(key, value)])
  const model = { ...Object.fromEntries(values), send_msg, on: (key, listener) => (listeners[key] ??= []).push(listener) }
  const shadow = document.getElementById(id).attachShadow({ mode: "open" })
  const sheet = document.createElement("style")
  sheet.textContent = style
  shadow.append(sheet, parts[name]({ model }))
  return (changes) => {
    for (const [key, value] of Object.entries(changes)) {
      model[key] = given(key, value)
      for (const listener of listeners[key] ?? []) listener()
    }
  }
}
const heading = (id, title, help) => show("heading", id, { title, help, detail: "" })
const written = (number) => {
  const size = Math.abs(number)
  const text = number.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1)
  return Number(text) === 0 ? text.replace("-", "") : text
}
const count = (number) => number.toLocaleString("en")
const range = (n) => Array.from({ length: n }, (_, i) => i)
const hasTables = () => position >= saved.first && position < saved.last

const neighbors = () => {
  const at = (c) => (layer * columns + c) * positions + position
  const row = (c) => ((layer * columns + c) * (saved.last - saved.first) + position - saved.first) * saved.ranks
  const mark = (i) => (neighbor[i] === own[position] ? "own" : inText.has(neighbor[i]) ? "text" : "")
  const cell = (i) => [saved.names[neighbor[i]], written(distance[i]), mark(i)]
  const rank = (r) => range(columns).map((c) => cell(row(c) + r))
  return {
    heads: columns,
    name: columnName,
    own: range(columns).map((c) => [count(ownRank[at(c)]), written(ownDistance[at(c)])]),
    cells: hasTables() ? range(saved.ranks).map(rank) : [],
  }
}
const others = () => {
  const row = (h) => ((layer * heads + h) * (saved.last - saved.first) + position - saved.first) * saved.others
  const cell = (i) => {
    const other = otherPosition[i]
    return [saved.chips[other].name, written(otherDistance[i]), own[other] === own[position] ? "own" : "", String(other)]
  }
  const rank = (r) => range(heads).map((h) => cell(row(h) + r))
  return { heads, own: [], cells: hasTables() ? range(saved.others).map(rank) : [] }
}

const choose = (changes) => {
  const wanted = { layer, head, position, ...changes }
  if (!(wanted.layer >= 0 && wanted.layer < layers && wanted.head >= 0 && wanted.head < heads)) return
  ;({ layer, head, position } = wanted)
  draw()
}
const setChipsHeading = heading("chips-heading", "Tokens", saved.chips_help)
const setChips = show("chips", "chips", { items: saved.chips, chosen: position, caption: "Tokens of the text" }, ({ index }) => choose({ position: index }))
const fields = () => [
  { name: "layer", label: "Layer", value: layer, options: saved.layers.map((number, i) => [i, String(number)]), disabled: false },
  { name: "head", label: "Head", value: head, options: range(heads).map((i) => [i, String(i)]), disabled: false },
]
const setChoices = show("choices", "choices", { fields: fields() }, ({ name, value }) => choose({ [name]: value }))
const setMapHeading = heading("map-heading", "Layers and heads", `${saved.question} ${measure.help} Click a cell to choose it.`)
const setNearHeading = heading("near-heading", "Nearest vocabulary tokens", `${saved.question} Each with its distance. Own rank: how many vocabulary tokens are nearer than the token that stands there, plus 1.`)
const setNear = show("rank_table", "near", {
  table: neighbors(), head: columnOf(head), caption: "Nearest vocabulary tokens by rank and head", expected_rows: saved.ranks, has_own: true,
  legend: [["own", "flies", "the token itself"], ["text", "arrow", "another token of the text"], ["column", "7", "the chosen head; click a column to choose another"]],
}, (said) => choose({ head: headOf(said.head) }))
const setSequenceHeading = heading("sequence-heading", "Nearest tokens of the text", "For each head, the positions of this text at which it wrote something most like what it wrote at the chosen token. The small number is the position.")
const setSequence = show("rank_table", "sequence", {
  table: others(), head, caption: "Nearest tokens of the text by rank and head", expected_rows: saved.others, has_own: false,
  legend: [["own", "flies", "the same token elsewhere in the text"], ["column", "7", "the chosen head"]],
}, (said) => choose(said))
const setAttentionHeading = heading("attention-heading", "Attention", "From each token (row) to each token of the text (column), of the chosen head; the stronger the colour, the more. The outlined row is the chosen token's; click a row to choose its token.")

// The attention, drawn on a canvas: a few pixels a cell, however long the text.
const canvas = document.createElement("canvas")
const figure = document.createElement("figure")
const caption = document.createElement("figcaption")
const scroll = document.createElement("div")
scroll.className = "matrix"
scroll.tabIndex = 0
canvas.setAttribute("role", "img")
scroll.append(canvas)
figure.append(scroll, caption)
document.getElementById("attention").append(figure)
document.getElementById("attention-card").hidden = !saved.attention
const size = Math.max(2, Math.min(26, Math.floor(420 / positions)))
const start = () => (saved.attention.of ? 0 : (layer * heads + head) * positions * positions)
const drawAttention = () => {
  if (!saved.attention) return
  const { of } = saved.attention
  const there = !of || (of[0] === layer && of[1] === head)
  setAttentionHeading({ detail: there ? `layer ${saved.layers[layer]}, head ${head}` : `this file has that of layer ${saved.layers[of[0]]}, head ${of[1]} only` })
  scroll.hidden = !there
  caption.textContent = ""
  if (!there) return
  canvas.width = canvas.height = positions * size
  canvas.setAttribute("aria-label", `Attention of layer ${saved.layers[layer]}, head ${head}`)
  const paint = canvas.getContext("2d")
  const first = start()
  const most = weights.subarray(first, first + positions * positions).reduce((a, b) => Math.max(a, b), 1e-9)
  for (let from = 0; from < positions; from++) {
    for (let to = 0; to < positions; to++) {
      paint.fillStyle = `rgb(47 111 208 / ${Math.sqrt(weights[first + from * positions + to] / most)})`
      paint.fillRect(to * size, from * size, size, size)
    }
  }
  paint.strokeStyle = "#e8710a"
  paint.lineWidth = 2
  paint.strokeRect(1, position * size + 1, positions * size - 2, size - 2)
}
const under = (event) => [event.offsetX, event.offsetY].map((at) => Math.min(positions - 1, Math.max(0, Math.floor(at / size))))
canvas.addEventListener("mousemove", (event) => {
  const [to, from] = under(event)
  const name = (at) => `“${saved.chips[at].name}” at ${at}`
  caption.textContent = `From ${name(from)} to ${name(to)}: ${weights[start() + from * positions + to].toFixed(3)}`
})
canvas.addEventListener("click", (event) => choose({ position: under(event)[1] }))

// The map is BokehJS's, drawn once; a click only gives its sources other columns.
const drawMap = () => {
  const found = Bokeh.documents[0]
  const cells = found?.get_model_by_name("cells")
  if (!cells) return
  const at = range(layers * columns).map((i) => i * positions + position)
  const shown = at.map((i) => values[i])
  // HoloViews has its own order of cells: where each stands is replaced with the rest.
  const [rows, places] = [at.map((_, i) => Math.floor(i / columns)), at.map((_, i) => i % columns)]
  const where = { layer: rows, head: places, number: rows.map((i) => saved.layers[i]) }
  cells.data = {
    ...cells.data, ...where, zvalues: shown, value: shown, own_rank: at.map((i) => ownRank[i]), written: at.map((i) => measure.paints[looks[i]][2]),
    distance: at.map((i) => nearestDistance[i]), nearest: at.map((i) => saved.names[nearest[i]]),
  }
  found.get_model_by_name("outline").data = { left: [columnOf(head) - 0.5], right: [columnOf(head) + 0.5], bottom: [layer - 0.5], top: [layer + 0.5] }
}
const listenToMap = () => {
  const map = globalThis.Bokeh?.documents[0]?.get_model_by_name("map")
  if (!map) return setTimeout(listenToMap, 20)
  map.on_event("tap", ({ x, y }) => choose({ layer: Math.round(y), head: headOf(Math.round(x)) }))
  drawMap()
}

const draw = () => {
  const chosen = `“${saved.chips[position].name}” at position ${position}`
  const detail = `layer ${saved.layers[layer]} · ${chosen}` + (hasTables() ? "" : " · not in this file")
  const first = (layer * columns + columnOf(head)) * positions
  const where = `layer ${saved.layers[layer]}` + (columnName && `, ${columnName} ${columnOf(head)}`)
  const painted = range(positions).map((i) => measure.paints[looks[first + i]])
  setChips({
    key: { label: `In ${where}: ${measure.title}`, steps: measure.steps },
    paint: painted.map(([color, ink, written]) => [color, ink, `${measure.short}: ${written}`]),
    chosen: position,
  })
  setChipsHeading({ detail: `${count(positions)} tokens · chosen: ${chosen}` })
  setChoices({ fields: fields() })
  setMapHeading({ detail: chosen })
  setNearHeading({ detail })
  setNear({ table: neighbors(), head: columnOf(head) })
  setSequenceHeading({ detail })
  setSequence({ table: others(), head })
  drawAttention()
  drawMap()
}

document.getElementById("text").textContent = saved.text
for (const [term, meaning] of saved.facts) {
  const pair = document.createElement("div")
  const [dt, dd] = ["dt", "dd"].map((tag) => document.createElement(tag))
  dt.textContent = term
  dd.textContent = meaning
  pair.append(dt, dd)
  document.getElementById("facts").append(pair)
}
for (const note of saved.notes) {
  const item = document.createElement("li")
  item.textContent = note
  document.getElementById("notes").append(item)
}
document.getElementById("notes").hidden = saved.notes.length === 0
draw()
listenToMap()
