using VirtBackup.Agent.Host;
using VirtBackup.Core;

var path = AgentSettings.DefaultPath;
switch (args)
{
    case []:
        break;
    case [ThawWatchdog.Verb]:
        return await ThawWatchdog.RunAsync();
    case ["--config", var named]:
        path = named;
        break;
    default:
        Console.Error.WriteLine("usage: virtbackup-agent [--config FILE]");
        return 2;
}
// Threads that wait for a disk are no reason for the processors to wait.
const int DiskThreads = 6;
ThreadPool.GetMinThreads(out var processors, out var completions);
ThreadPool.SetMinThreads(processors + DiskThreads, completions);
AgentSettings? settings = null;
try
{
    settings = AgentSettings.Load(path);
    var builder = Microsoft.Extensions.Hosting.Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { DisableDefaults = true });
    builder.Logging.AddSimpleConsole(options =>
    {
        options.SingleLine = true;
        options.UseUtcTimestamp = true;
        options.TimestampFormat = "yyyy-MM-ddTHH:mm:ssZ ";
        options.ColorBehavior = Microsoft.Extensions.Logging.Console.LoggerColorBehavior.Disabled;
    });
    builder.Logging.AddFilter("Microsoft", LogLevel.Warning);
    builder.Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(options => options.LogToStandardErrorThreshold = LogLevel.Trace);
    builder.Services.AddSystemd();
    builder.Services.AddSingleton(settings);
    builder.Services.AddSingleton<AgentService>();
    builder.Services.AddHostedService(services => services.GetRequiredService<AgentService>());
    // A machine's view is removed before the process ends.
    builder.Services.Configure<HostOptions>(options => options.ShutdownTimeout = TimeSpan.FromSeconds(30));
    using var host = builder.Build();
    var service = host.Services.GetRequiredService<AgentService>();
    await host.RunAsync();
    if (service.Failure is { } failure)
    {
        throw failure;
    }
    return 0;
}
catch (FaultException fault)
{
    Console.Error.WriteLine($"error: {fault.Message}");
    if (fault.Reason == FaultReason.Denied && settings is not null)
    {
        Console.Error.WriteLine(
            $"next: if this host is to go on as an agent, move {Path.Combine(settings.Home, "identity")} away and enroll it anew: virtbackup agent token --name NAME, then virtbackup agent enroll TOKEN --home {settings.Home}");
    }
    return fault.Reason switch
    {
        FaultReason.InvalidArgument or FaultReason.NotFound => 2,
        FaultReason.Denied => 4,
        _ => 1,
    };
}
