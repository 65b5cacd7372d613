const legible = (text) => globalThis.attnxrLegible?.(text) ?? text

// Two lists of neighbours side by side; what is in both says at which rank of the other.
export function render({ model }) {
  const box = document.createElement("div")
  const lists = document.createElement("div")
  const note = document.createElement("p")
  box.className = "two-lists"
  lists.className = "lists"
  note.className = "note"
  note.setAttribute("role", "status")
  box.append(note, lists)
  const make = (tag, className, text) => {
    const node = document.createElement(tag)
    if (className) node.className = className
    if (text !== undefined) node.textContent = text
    return node
  }
  const cell = (tag, className, text, scope) => {
    const node = make(tag, className, text)
    if (scope) node.scope = scope
    return node
  }
  const listOf = ({ side, title, own, rows }) => {
    const table = make("table")
    const caption = make("caption")
    caption.append(make("span", "side", side), " ", make("span", "", title))
    const head = make("tr")
    for (const name of ["rank", "token", "distance", "in the other"]) head.append(cell("th", "", name, "col"))
    const first = make("tr", "own-row")
    first.append(cell("th", "", "own", "row"), make("td", "", `rank ${own[0]}`), make("td", "far", own[1]), make("td"))
    const thead = make("thead")
    thead.append(head, first)
    const tbody = make("tbody")
    rows.forEach(([token, far, other], i) => {
      const row = make("tr", other > 0 ? "both" : "")
      const word = make("td", "word", legible(token))
      word.title = token
      row.append(cell("th", "", String(i + 1), "row"), word, make("td", "far", far), make("td", "other", other > 0 ? `↔ ${other}` : "–"))
      tbody.append(row)
    })
    table.append(caption, thead, tbody)
    return table
  }
  const draw = () => {
    note.textContent = model.note
    lists.replaceChildren(...model.lists.map(listOf))
  }
  model.on("lists", draw)
  model.on("note", draw)
  draw()
  return box
}
