namespace VirtBackup.Tidy.Tests;

/// <summary>The repository keeps its rules; each rule is seen to fail on a planted violation first.</summary>
public sealed class RepositoryTests
{
    private static readonly IReadOnlyList<Rule> Rules = [.. ProjectRules.All, .. CodeRules.All, .. RepositoryRules.All];

    private static readonly Lazy<SourceTree> Repository = new(SourceTree.Load);

    public static TheoryData<string> RuleNames => [.. Rules.Select(rule => rule.Name)];

    public static TheoryData<string> PlantNames => [.. PlantedViolations.All.Select(plant => plant.Name)];

    [Theory, MemberData(nameof(RuleNames))]
    public void Rule_holds(string name)
    {
        var violations = Find(name, Repository.Value).ToArray();
        Assert.True(violations.Length == 0, $"{name}: {violations.Length} violations.\n{string.Join('\n', violations.Select(violation => violation.ToString()))}");
    }

    [Fact]
    public void Repository_is_read()
    {
        Assert.NotNull(Repository.Value.Find("src/VirtBackup.Core/Id16.cs"));
        Assert.NotNull(Repository.Value.Find("tests/VirtBackup.Tidy.Tests/VirtBackup.Tidy.Tests.csproj"));
        Assert.Equal(Floors.Product.Count, Repository.Value.Projects.Count(file => file.Path.StartsWith("src/", StringComparison.Ordinal)));
        Assert.DoesNotContain(Repository.Value.Files, file => file.Path.Split('/').Contains("obj"));
    }

    [Theory, MemberData(nameof(RuleNames))]
    public void Sound_tree_passes(string name) => Assert.Empty(Find(name, PlantedViolations.SoundTree));

    [Theory, MemberData(nameof(PlantNames))]
    public void Planted_violation_is_found(string name)
    {
        var plant = PlantedViolations.All.Single(plant => plant.Name == name);
        var found = Find(plant.Rule, PlantedViolations.SoundTree.With(plant.Path, plant.Content));
        Assert.Equal(plant.Places, found.Select(violation => violation.Place).Distinct().Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_rule_has_a_planted_violation() =>
        Assert.Equal(Rules.Select(rule => rule.Name).Order(), PlantedViolations.All.Where(plant => plant.Places.Length > 0).Select(plant => plant.Rule).Distinct().Order());

    private static IEnumerable<Violation> Find(string rule, SourceTree tree) => Rules.Single(candidate => candidate.Name == rule).Find(tree);
}
