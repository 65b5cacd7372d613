// Tables of names, bars, numbers and notes.
export function render({ model }) {
  const box = document.createElement("div")
  box.className = "bar-lists"
  const make = (tag, className, text) => {
    const node = document.createElement(tag)
    if (className) node.className = className
    if (text !== undefined) node.textContent = text
    return node
  }
  const rowOf = ([name, length, number, note], bothWays) => {
    const row = make("tr")
    const first = make("th", "name", name)
    first.scope = "row"
    first.title = name
    const bar = make("td", "bar")
    const track = make("span", "track")
    const fill = make("span", length < 0 ? "fill below" : "fill")
    const [from, whole] = bothWays ? [50, 50] : [0, 100]
    const size = Math.min(1, Math.abs(length)) * whole
    fill.style.left = `${length < 0 ? from - size : from}%`
    fill.style.width = `${size}%`
    track.append(fill)
    bar.append(track)
    row.append(first, bar, make("td", "figure", number), make("td", "note", note))
    return row
  }
  const listOf = ({ title, columns, rows, wait }) => {
    const table = make("table")
    table.append(make("caption", "", title))
    const head = make("tr")
    const [name, number, note] = columns
    for (const [text, className] of [[name, "name"], ["", "bar"], [number, "figure"], [note, "note"]]) {
      const cell = make(text ? "th" : "td", className, text)
      if (text) cell.scope = "col"
      head.append(cell)
    }
    const thead = make("thead")
    thead.append(head)
    const tbody = make("tbody")
    const bothWays = rows.some(([, length]) => length < 0)
    tbody.append(...rows.map((row) => rowOf(row, bothWays)))
    if (rows.length === 0) {
      const row = make("tr")
      const cell = make("td", "wait", wait)
      cell.colSpan = 4
      row.append(cell)
      tbody.append(row)
    }
    table.append(thead, tbody)
    return table
  }
  const draw = () => box.replaceChildren(...JSON.parse(model.lists).map(listOf))
  model.on("lists", draw)
  draw()
  return box
}
