export function render({ model }) {
  const box = document.createElement("div")
  const list = document.createElement("div")
  list.className = model.pages ? "tablist pages" : "tablist"
  list.setAttribute("role", "tablist")
  list.setAttribute("aria-label", model.caption)
  const views = model.get_child("views")
  const tabs = model.names.map((name, index) => {
    const tab = document.createElement("button")
    tab.type = "button"
    tab.id = `tab-${index}`
    tab.textContent = name
    tab.setAttribute("role", "tab")
    tab.setAttribute("aria-controls", `panel-${index}`)
    return tab
  })
  const panels = views.map((view, index) => {
    const panel = document.createElement("div")
    panel.id = `panel-${index}`
    panel.className = "tabpanel"
    panel.setAttribute("role", "tabpanel")
    panel.setAttribute("aria-labelledby", `tab-${index}`)
    panel.append(view)
    return panel
  })
  list.append(...tabs)
  box.append(list, ...panels)

  const open = (index) => {
    const another = panels[index].hidden
    tabs.forEach((tab, other) => {
      tab.ariaSelected = String(other === index)
      tab.tabIndex = other === index ? 0 : -1
      panels[other].hidden = other !== index
    })
    if (model.pages && another) list.scrollIntoView({ block: "center" }) // what stands above it may lie over it
  }
  // What is open is shown at once; what is in it may come later.
  const choose = (index) => {
    if (panels[index].hidden) {
      open(index)
      model.send_msg({ name: model.names[index] })
    }
  }
  list.addEventListener("click", (event) => {
    const index = tabs.indexOf(event.target.closest("[role=tab]"))
    if (index >= 0) choose(index)
  })
  list.addEventListener("keydown", (event) => {
    const here = tabs.indexOf(event.target)
    const last = tabs.length - 1
    const there = {
      ArrowRight: here === last ? 0 : here + 1,
      ArrowLeft: here === 0 ? last : here - 1,
      Home: 0,
      End: last,
    }[event.key]
    if (here < 0 || there === undefined) return
    event.preventDefault()
    event.stopPropagation() // arrows elsewhere on the page may move the selection
    tabs[there].focus()
    choose(there)
  })
  // What is in the open one may come later, and the browser moves what is above it meanwhile.
  const reveal = () => {
    tabs.find((tab) => tab.ariaSelected === "true").focus({ preventScroll: true })
    const scroll = () => {
      const { top } = list.getBoundingClientRect()
      if (top < 46 || top > 70) list.scrollIntoView({ block: "start" })
    }
    const grown = new ResizeObserver(() => requestAnimationFrame(scroll))
    grown.observe(box)
    setTimeout(() => grown.disconnect(), 1500)
  }
  const show = () => open(Math.max(0, model.names.indexOf(model.open)))
  model.on("open", show)
  model.on("msg:custom", reveal)
  show()
  return box
}
