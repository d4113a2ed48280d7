"""The settings of a desktop: what makes its programs behave alike every time.

Windows open without animation and next to one another, two clicks of two actions are never one
double click, nothing is remembered of files that were open, and file managers ask nothing.
"""

_OPENBOX = """<?xml version="1.0"?>
<openbox_config xmlns="http://openbox.org/3.4/rc">
<focus><focusNew>yes</focusNew><followMouse>no</followMouse></focus>
<placement><policy>Smart</policy><center>no</center></placement>
<theme><name>Clearlooks</name></theme>
<desktops><number>1</number></desktops>
<keyboard>
<keybind key="A-F4"><action name="Close"/></keybind>
<keybind key="A-Tab"><action name="NextWindow"><dialog>none</dialog>
<finalactions><action name="Focus"/><action name="Raise"/></finalactions></action></keybind>
</keyboard>
<mouse><doubleClickTime>100</doubleClickTime>
<context name="Titlebar"><mousebind button="Left" action="Press"><action name="Focus"/>
<action name="Raise"/></mousebind></context>
<context name="Client"><mousebind button="Left" action="Press"><action name="Focus"/>
<action name="Raise"/></mousebind><mousebind button="Right" action="Press">
<action name="Focus"/><action name="Raise"/></mousebind></context>
</mouse>
</openbox_config>
"""
_GTK = """[Settings]
gtk-enable-animations=0
gtk-cursor-blink=0
gtk-double-click-time=100
gtk-recent-files-enabled=0
gtk-recent-files-max-age=0
gtk-primary-button-warps-slider=0
gtk-menu-popup-delay=0
gtk-entry-select-on-focus=1
"""
_GTK2 = """gtk-enable-animations = 0
gtk-cursor-blink = 0
gtk-double-click-time = 100
gtk-recent-files-max-age = 0
gtk-enable-tooltips = 0
"""
_FILE_CHOOSER = """[org/gtk/settings/file-chooser]
startup-mode='cwd'
location-mode='path-bar'
sort-directories-first=true

[org/xfce/mousepad/preferences/file]
session-restore='never'
"""
_PCMANFM = """[config]
bm_open_method=0
[volume]
mount_on_startup=0
mount_removable=0
autorun=0
[ui]
win_width=640
win_height=480
side_pane_mode=hidden;places
view_mode=list
sort=name;ascending;
toolbar=navigation;home;
show_statusbar=0
"""
_LIBFM = """[config]
single_click=0
use_trash=1
confirm_del=1
confirm_trash=0
thumbnail_local=0
quick_exec=0
[ui]
show_thumbnail=0
[places]
places_home=1
places_desktop=0
places_applications=0
places_trash=0
"""
_THUNAR = """<?xml version="1.0" encoding="UTF-8"?>
<channel name="thunar" version="1.0">
<property name="last-view" type="string" value="ThunarDetailsView"/>
<property name="last-side-pane" type="string" value="void"/>
<property name="last-details-view-visible-columns" type="string"
 value="THUNAR_COLUMN_NAME,THUNAR_COLUMN_SIZE"/>
<property name="last-window-width" type="int" value="640"/>
<property name="last-window-height" type="int" value="480"/>
<property name="misc-thumbnail-mode" type="string" value="THUNAR_THUMBNAIL_MODE_NEVER"/>
<property name="misc-volume-management" type="bool" value="false"/>
</channel>
"""
MOUSEPAD_FILE = '.config/glib-2.0/settings/keyfile'
CONFIG = {
    '.config/openbox/rc.xml': _OPENBOX,
    '.config/gtk-3.0/settings.ini': _GTK,
    '.gtkrc-2.0': _GTK2,
    MOUSEPAD_FILE: _FILE_CHOOSER,
    '.config/pcmanfm/default/pcmanfm.conf': _PCMANFM,
    '.config/libfm/libfm.conf': _LIBFM,
    '.config/xfce4/xfconf/xfce-perchannel-xml/thunar.xml': _THUNAR,
}
