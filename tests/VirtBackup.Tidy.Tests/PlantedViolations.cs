namespace VirtBackup.Tidy.Tests;

/// <summary>A small sound tree, and changes of one file of it with what the rule must say about them.</summary>
internal static class PlantedViolations
{
    private const string References = "References stay on their floor";
    private const string Circles = "Projects form no circle";
    private const string Versions = "Versions are central";
    private const string Solution = "The solution lists every project";
    private const string Folders = "Every folder with code is a project";
    private const string Banned = "No clock, chance, thread or terminal below the programs";
    private const string Waits = "Every wait has a TimeProvider";
    private const string Imports = "Code names only the projects of its floor";
    private const string GrpcRule = "gRPC stays in its folders";
    private const string Sqlite = "SQLite stays in Database";
    private const string FileRule = "File access has its projects";
    private const string Regions = "No regions";
    private const string Length = "Files are short";
    private const string Names = "Names say what a thing is";
    private const string Top = "The top level is closed";
    private const string Words = "The project speaks of itself";
    private const string Links = "Links resolve";

    private const string FormatProject = "src/VirtBackup.Format/VirtBackup.Format.csproj";
    private const string FormatCode = "src/VirtBackup.Format/Chunk.cs";
    private const string TestProject = "tests/VirtBackup.Format.Tests/VirtBackup.Format.Tests.csproj";

    public static readonly SourceTree SoundTree = new(
    [
        new("VirtBackup.sln", SolutionOf("src/VirtBackup.Core", "src/VirtBackup.Format", "src/VirtBackup.Cli", "src/VirtBackup.Nbd", "tests/VirtBackup.Format.Tests")),
        new("Directory.Build.props", "<Project />"),
        new(".editorconfig", "root = true\n"),
        new("README.md", "[source](src/VirtBackup.Core) [web](https://example.org/x) [here](#top) `[code](nowhere)`\n```\n[code](nowhere)\n```\n"),
        new("src/VirtBackup.Core/VirtBackup.Core.csproj", ProjectOf()),
        new("src/VirtBackup.Core/Id16.cs", "namespace VirtBackup.Core;\n"),
        new(FormatProject, ProjectOf("<ProjectReference Include=\"../VirtBackup.Core/VirtBackup.Core.csproj\" />")),
        new(FormatCode, "using VirtBackup.Core;\n\nnamespace VirtBackup.Format;\n"),
        new("src/VirtBackup.Nbd/VirtBackup.Nbd.csproj", ProjectOf("<ProjectReference Include=\"../VirtBackup.Core/VirtBackup.Core.csproj\" />")),
        new("src/VirtBackup.Cli/VirtBackup.Cli.csproj", ProjectOf("<ProjectReference Include=\"../VirtBackup.Format/VirtBackup.Format.csproj\" />")),
        new("src/VirtBackup.Cli/Program.cs", "using Grpc.Net.Client;\nConsole.WriteLine(File.ReadAllText(path) + DateTime.UtcNow);\nawait Task.Delay(1);\n"),
        new(TestProject, ProjectOf("<ProjectReference Include=\"../../src/VirtBackup.Format/VirtBackup.Format.csproj\" />", "<PackageReference Include=\"CsCheck\" />")),
        new("tests/VirtBackup.Format.Tests/ChunkTests.cs", "await Task.Run(() => File.Delete(path));\n"),
    ]);

    public static readonly IReadOnlyList<Planted> All =
    [
        new("project above its floor", References, FormatProject, ProjectOf("", "<ProjectReference Include=\"..\\VirtBackup.Nbd\\VirtBackup.Nbd.csproj\" />"), [FormatProject + ":4"]),
        new("strange package", References, FormatProject, ProjectOf("<PackageReference Include=\"ZstdSharp.Port\" />"), [FormatProject + ":3"]),
        new("strange framework", References, FormatProject, ProjectOf("<FrameworkReference Include=\"Microsoft.AspNetCore.App\" />"), [FormatProject + ":3"]),
        new("reference to a file", References, FormatProject, ProjectOf("<Reference Include=\"Other.dll\" />"), [FormatProject + ":3"]),
        new("strange package of a test", References, TestProject, ProjectOf("<PackageReference Include=\"Moq\" />"), [TestProject + ":3"]),
        new("test that references a test", References, TestProject, ProjectOf("<ProjectReference Include=\"../X.Tests/X.Tests.csproj\" />"), [TestProject + ":3"]),
        new("package for everybody", References, "Directory.Build.props", ProjectOf("<PackageReference Include=\"xunit.v3\" />"), ["Directory.Build.props:3"]),
        new("project without a floor", References, "src/VirtBackup.New/VirtBackup.New.csproj", ProjectOf(), ["src/VirtBackup.New/VirtBackup.New.csproj:1"]),
        new(
            "command line that reaches the agent", References, "src/VirtBackup.Core/VirtBackup.Core.csproj",
            ProjectOf("<ProjectReference Include=\"../VirtBackup.Agent/VirtBackup.Agent.csproj\" />"),
            ["src/VirtBackup.Cli/VirtBackup.Cli.csproj:1", "src/VirtBackup.Core/VirtBackup.Core.csproj:3"]),
        new(
            "circle", Circles, "src/VirtBackup.Core/VirtBackup.Core.csproj", ProjectOf("<ProjectReference Include=\"../VirtBackup.Format/VirtBackup.Format.csproj\" />"),
            ["src/VirtBackup.Core/VirtBackup.Core.csproj:1", FormatProject + ":1"]),
        new("version", Versions, FormatProject, ProjectOf("<PackageReference Include=\"X\" Version=\"1.0\" />"), [FormatProject + ":3"]),
        new("overriding version", Versions, FormatProject, ProjectOf("<PackageReference Include=\"X\" VersionOverride=\"1.0\" />"), [FormatProject + ":3"]),
        new("version as an element", Versions, FormatProject, ProjectOf("<PackageReference Include=\"X\">\n<Version>1.0</Version></PackageReference>"), [FormatProject + ":4"]),
        new("project missing in the solution", Solution, "src/VirtBackup.New/VirtBackup.New.csproj", ProjectOf(), ["src/VirtBackup.New/VirtBackup.New.csproj:1"]),
        new("project missing on disk", Solution, FormatProject, null, ["VirtBackup.sln:3"]),
        new("solution missing", Solution, "VirtBackup.sln", null, ["VirtBackup.sln:1"]),
        new("test folder without a project", Folders, "tests/VirtBackup.New.Tests/NewTests.cs", "", ["tests/VirtBackup.New.Tests/NewTests.cs:1"]),
        new("project of another name", Folders, "src/VirtBackup.Core/Other.csproj", ProjectOf(), ["src/VirtBackup.Core/Other.csproj:1"]),

        .. new[]
        {
            "DateTime.UtcNow", "DateTime.Now", "DateTimeOffset . UtcNow", "DateTime.Today", "TimeProvider.System", "Stopwatch.StartNew()", "Environment.TickCount64",
            "Random.Shared", "new Random(1)", "new System.Random()", "Guid.NewGuid()", "Task.Run(F)", "Task.Factory.StartNew(F)", "t.ConfigureAwait(false)", "new Thread(F)",
            "new Timer(F)", "Thread.Sleep(1)", "ThreadPool.QueueUserWorkItem(F)", "Parallel.ForEachAsync(F)", "Console.Out", "$\"at {DateTime.UtcNow:O}\"",
        }.Select(call => new Planted($"banned: {call}", Banned, FormatCode, $"// DateTime.UtcNow\nvar s = \"Task.Run(\";\nvar x = {call};\n", [FormatCode + ":3"])),
        new("words only", Banned, FormatCode, "/* Stopwatch\n */ var x = @\"\"\"Console.Out\"\"\"; time.GetUtcNow(); taskRun.Run(); TimeProvider T { get; init; } = TimeProvider.System;\n", []),

        .. new[]
        {
            "Task.Delay(1)", "Task.Delay(span, token)", "Task.Delay(timeout, token)", "new CancellationTokenSource(TimeSpan.FromSeconds(5))", "source.CancelAfter(limit)",
            "new PeriodicTimer(Interval(1, 2))",
        }.Select(call => new Planted($"clockless: {call}", Waits, FormatCode, $"\nvar x = {call};\n", [FormatCode + ":2"])),
        new("clockless: target-typed new", Waits, FormatCode, "CancellationTokenSource x = new(limit);\n", [FormatCode + ":1"]),
        new(
            "waits with a clock", Waits, FormatCode,
            "Task.Delay(F(1, 2), time, token); Task.Delay(x, _time); Task.Delay(x, context.Tools.Time, t); new CancellationTokenSource(); new CancellationTokenSource(x, options.TimeProvider);\n", []),

        new("import above the floor", Imports, FormatCode, "\nusing VirtBackup.Database;\n", [FormatCode + ":2"]),
        new("name above the floor", Imports, FormatCode, "\n\nvar x = new VirtBackup.Agent.Host.Program();\n", [FormatCode + ":3"]),
        new("gRPC below", GrpcRule, FormatCode, "using Grpc.Core;\n", [FormatCode + ":1"]),
        new("gRPC in the protocol's transport", GrpcRule, "src/VirtBackup.Protocol/Transport/IDuplex.cs", "\nGrpc.Net.Client.GrpcChannel x;\n", ["src/VirtBackup.Protocol/Transport/IDuplex.cs:2"]),
        new("gRPC in its folder", GrpcRule, "src/VirtBackup.Protocol/Grpc/Duplex.cs", "using Grpc.Core;\n", []),
        new("SQLite elsewhere", Sqlite, FormatCode, "using Microsoft.Data.Sqlite;\nSqliteDatabase ours; SqliteConnection x;\n", [FormatCode + ":1", FormatCode + ":2"]),
        new("SQLite in Database", Sqlite, "src/VirtBackup.Database/Session.cs", "using Microsoft.Data.Sqlite;\n", []),
        new("file elsewhere", FileRule, FormatCode, "x.File.Length = 1;\nSystem.IO.File.Delete(p);\nDirectory.Exists(p);\nFileStream s;\n", [FormatCode + ":2", FormatCode + ":3", FormatCode + ":4"]),
        new("file in its project", FileRule, "src/VirtBackup.Nbd/Socket.cs", "File.Delete(p);\n", []),
        new("region", Regions, FormatCode, "\n    #region it's long\n    #endregion\n", [FormatCode + ":2", FormatCode + ":3"]),

        new("long source", Length, FormatCode, string.Concat(Enumerable.Repeat("\n", 401)), [FormatCode + ":401"]),
        new("long script", Length, "deploy/lab/build.sh", string.Concat(Enumerable.Repeat("\n", 400)) + "x", ["deploy/lab/build.sh:401"]),
        new("source at the limit", Length, FormatCode, string.Concat(Enumerable.Repeat("\n", 400)), []),
        .. new[] { "StringUtils.cs", "HelperFunctions.cs", "JobManager.cs", "helpers/X.cs" }.Select(name =>
            new Planted($"vague: {name}", Names, "src/VirtBackup.Core/" + name, "", [$"src/VirtBackup.Core/{name}:1"])),
        new("folder at the top", Top, "docs/index.md", "", ["docs/index.md:1"]),
        new("file at the top", Top, "Makefile", "", ["Makefile:1"]),
        .. new[] { "/wo" + "rk/x", "Cla" + "ude", "an L" + "LM.", "Anth" + "ropic", "sub" + "agents" }.Select((word, index) =>
            new Planted($"foreign word {index}", Words, "README.md", $"\n{word}\n", ["README.md:2"])),
        new("words alike", Words, "README.md", "/homework/x, /" + "work, LLMNR, the agent's subject\n", []),
        new("link to nothing", Links, "README.md", "[a](src/VirtBackup.Core/Id16.cs)\n[b](src/Nothing.md)\n", ["README.md:2"]),
        new("relative link", Links, "src/README.md", "[a](../README.md#top) [b](VirtBackup.Core/Id16.cs \"title\")\n[c](../src/X.md) [d](../../x)\n", ["src/README.md:2"]),
        new("link by reference", Links, "README.md", "\n[a]: nothing.md\n", ["README.md:2"]),
    ];

    private static string ProjectOf(params string[] items) => $"<Project>\n<ItemGroup>\n{string.Join('\n', items)}\n</ItemGroup>\n</Project>\n";

    private static string SolutionOf(params string[] folders) => string.Concat(["\n", .. folders.Select(folder =>
        $"Project(\"{{FAE04EC0}}\") = \"{Path.GetFileName(folder)}\", \"{folder.Replace('/', '\\')}\\{Path.GetFileName(folder)}.csproj\", \"{{1}}\"\nEndProject\n".Replace("\nEndProject", "", StringComparison.Ordinal))]);
}

/// <summary>A change of one file.</summary>
/// <param name="Content">Null removes the file.</param>
/// <param name="Places">Where the rule must find something, in ordinal order; none: the rule must stay silent.</param>
internal sealed record Planted(string Name, string Rule, string Path, string? Content, string[] Places);
