const legible = (text) => globalThis.attnxrLegible?.(text) ?? text
const COLUMNS = ["head", "nearest token", "distance", "by chance", "p", "q", "verdict"]
const FIRST_HEADS = 12

const make = (tag, className = "", text = "") => {
  const node = document.createElement(tag)
  if (className) node.className = className
  if (text) node.textContent = text
  return node
}

export function render({ model }) {
  const box = make("div", "signal")
  const scroller = make("div", "scroll")
  const table = make("table")
  const tbody = make("tbody")
  const lines = make("dl")
  scroller.tabIndex = 0
  scroller.setAttribute("role", "region")
  scroller.setAttribute("aria-label", model.caption)
  const head = make("thead")
  const names = make("tr")
  for (const name of COLUMNS) {
    const cell = make("th", "", name)
    cell.scope = "col"
    names.append(cell)
  }
  head.append(names)
  table.append(make("caption", "unseen", model.caption), head, tbody)
  scroller.append(table)
  box.append(lines, scroller)

  const rowOf = (cells, index) => {
    const row = make("tr")
    row.dataset.head = index
    const first = make("th")
    first.scope = "row"
    const button = make("button", "", model.column ? String(index) : "stream")
    button.type = "button"
    button.ariaLabel = model.column ? `${model.column} ${index}` : "stream"
    first.append(button)
    row.append(first)
    cells.forEach((text, i) => {
      const cell = make("td", i === 0 ? "token" : i === 5 ? "verdict" : "figure", i === 0 ? legible(text) : text)
      if (i === 0) cell.title = text
      row.append(cell)
    })
    if (cells[5].startsWith("nearer")) row.classList.add("nearer")
    return row
  }
  const press = () => {
    for (const row of tbody.rows) {
      const chosen = Number(row.dataset.head) === model.head
      row.classList.toggle("chosen", chosen)
      row.querySelector("button").ariaPressed = String(chosen)
    }
  }
  const draw = () => {
    const rows = JSON.parse(model.rows)
    names.firstChild.textContent = model.column
    const waiting = rows.length === 0
    table.classList.toggle("waiting", waiting)
    const blank = Array(COLUMNS.length - 1).fill("")
    const shown = waiting ? Array(tbody.rows.length || FIRST_HEADS).fill(blank) : rows
    tbody.replaceChildren(...shown.map(rowOf))
    press()
  }
  const drawLines = () => {
    lines.replaceChildren(...model.lines.flatMap(([name, text]) => [make("dt", "", name), make("dd", "", text)]))
  }
  table.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-head]")?.dataset.head
    if (chosen !== undefined && !table.classList.contains("waiting")) model.send_msg({ head: Number(chosen) })
  })
  model.on("rows", draw)
  model.on("lines", drawLines)
  model.on("head", press)
  draw()
  drawLines()
  return box
}
