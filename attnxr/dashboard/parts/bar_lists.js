const legible = (text) => globalThis.attnxrLegible?.(text) ?? text

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
  // Where all stays but the words, it is only they that are changed: to lay out new tables costs several times as much.
  const write = (node, text) => {
    if (node.textContent !== text) node.textContent = text
  }
  const emptyRow = () => {
    const row = make("tr")
    const first = make("th", "name")
    first.scope = "row"
    const bar = make("td", "bar")
    const track = make("span", "track")
    track.append(make("span", "fill"))
    bar.append(track)
    row.append(first, bar, make("td", "figure"), make("td", "note"))
    return row
  }
  const fillRow = (row, [name, length, number, note], bothWays) => {
    const [first, bar, figure, beside] = row.cells
    const fill = bar.firstChild.firstChild
    const [from, whole] = bothWays ? [50, 50] : [0, 100]
    const size = Math.min(1, Math.abs(length)) * whole
    write(first, legible(name))
    first.title = name
    fill.className = length < 0 ? "fill below" : "fill"
    fill.style.left = `${length < 0 ? from - size : from}%`
    fill.style.width = `${size}%`
    write(figure, number)
    write(beside, note)
  }
  const emptyList = () => {
    const table = make("table")
    const thead = make("thead")
    thead.append(make("tr"))
    table.append(make("caption"), thead, make("tbody"))
    const list = make("div", "of")
    list.append(table)
    return list
  }
  const fillHead = (row, [name, number, note]) => {
    const texts = [name, "", number, note]
    if (Array.from(row.cells, (cell) => cell.textContent).join("\0") === texts.join("\0") && row.cells.length > 0) return
    row.replaceChildren(
      ...texts.map((text, i) => {
        const cell = make(text ? "th" : "td", ["name", "bar", "figure", "note"][i], text)
        if (text) cell.scope = "col"
        return cell
      }),
    )
  }
  const fillList = (list, { title, columns, rows, wait }) => {
    const table = list.firstChild
    const tbody = table.tBodies[0]
    write(table.caption, title)
    fillHead(table.tHead.rows[0], columns)
    table.classList.toggle("plain", !columns[2] && rows.every(([, , , note]) => !note))
    const bothWays = rows.some(([, length]) => length < 0)
    if (tbody.querySelector(".wait")) tbody.replaceChildren()
    while (tbody.rows.length > rows.length) tbody.lastChild.remove()
    while (tbody.rows.length < rows.length) tbody.append(emptyRow())
    rows.forEach((row, i) => fillRow(tbody.rows[i], row, bothWays))
    if (rows.length === 0) {
      const row = make("tr")
      const cell = make("td", "wait", wait)
      cell.colSpan = 4
      row.append(cell)
      tbody.append(row)
    }
  }
  const draw = () => {
    const lists = JSON.parse(model.lists)
    while (box.children.length > lists.length) box.lastChild.remove()
    while (box.children.length < lists.length) box.append(emptyList())
    lists.forEach((list, i) => fillList(box.children[i], list))
  }
  model.on("lists", draw)
  draw()
  return box
}
