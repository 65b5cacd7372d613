// Panel (1.9) throws away what a notebook sends to a view that is still being drawn, such as what a later cell changes.
// Here it waits until the view is there. BokehJS may arrive after this script, or never.
(function keepWhatIsEarly(tries) {
  const Manager = window.Bokeh?.Models?.get("panel.models.comm_manager.CommManager")
  if (Manager == null) {
    if (tries > 0) setTimeout(keepWhatIsEarly, 10, tries - 1)
    return
  }
  const handle = Manager.prototype.msg_handler
  if (handle.keepsWhatIsEarly) return

  function pass(manager, tries) {
    if (!(manager.plot_id in window.Bokeh.index) && tries > 0) {
      setTimeout(pass, 50, manager, tries - 1)
    } else {
      for (const message of manager.early.splice(0)) handle.call(manager, message)
    }
  }

  Manager.prototype.msg_handler = function (message) {
    this.early ??= []
    this.early.push(message)
    if (this.early.length === 1) pass(this, 6000)
  }
  Manager.prototype.msg_handler.keepsWhatIsEarly = true
})(6000)
