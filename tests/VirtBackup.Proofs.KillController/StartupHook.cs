using System.Reflection;

/// <summary>
/// What the .NET runtime runs in a process before its Main when DOTNET_STARTUP_HOOKS names this assembly; name and form are
/// the runtime's. In the controller it shortens the times that must pass before anything is deleted to nothing, so that
/// collections delete while backups run. What is never deleted does not depend on them.
/// </summary>
internal static class StartupHook
{
    private const string Program = "virtbackupd";
    private const string Safety = "VirtBackup.Repository.Collection.CollectionSafety";

    public static void Initialize()
    {
        if (Path.GetFileName(Environment.ProcessPath) != Program) return;
        var type = Assembly.Load("VirtBackup.Repository").GetType(Safety, throwOnError: true)!;
        var defaults = type.GetProperty("Default")!.GetValue(null);
        foreach (var field in type.GetFields(BindingFlags.Instance | BindingFlags.NonPublic))
        {
            field.SetValue(defaults, field.FieldType == typeof(TimeSpan) ? TimeSpan.Zero : true);
        }
    }

    /// <summary>For all programs that are started from now on.</summary>
    public static void Install() => Environment.SetEnvironmentVariable("DOTNET_STARTUP_HOOKS", typeof(StartupHook).Assembly.Location);
}
